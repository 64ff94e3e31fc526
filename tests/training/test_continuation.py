"""Trainings that are stopped, continued, or begun with earlier weights, and what their cards and curves say."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from short_training import shorten

from bench.errors import InputError
from bench.training import stage
from bench.training.curves import draw_curves, write_curve
from bench.training.jobs import Job, read_recipe
from bench.training.stage import _gains, train_one
from bench.training.zoo import train
from classifiers.nets.files import read_cnn
from classifiers.training.fit import train_classifier
from purifiers.nets.hub.cards import read_card


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder with a classifier that was trained for a moment, under both names; few images are validated."""
    patch = pytest.MonkeyPatch()
    shorten(patch, small=True)
    job = Job("mnist5k", out=str(tmp_path_factory.mktemp("zoo")), scale=0.002, unchecked=True)
    train_one(job, "classifier")
    for suffix in (".safetensors", ".json"):
        path = job.path("classifier").with_suffix(suffix)
        path.with_stem("features").write_bytes(path.read_bytes())
    yield job
    patch.undo()


def test_a_stage_that_is_stopped_is_saved_as_it_is_and_goes_on(zoo):
    train_one(replace(zoo, minutes=0), "edm")
    assert read_card(zoo.path("edm")).training["images_seen"] == 0
    train_one(zoo, "edm")
    card = read_card(zoo.path("edm")).training
    assert card["images_seen"] == card["recipe"]["steps"] * card["recipe"]["batch"] > 0


def test_a_training_begins_with_earlier_weights_and_adds_to_what_they_have_seen(zoo):
    train_one(zoo, "edm")
    first = read_card(zoo.path("edm"))
    (zoo.work() / "edm.pt").unlink()
    stopped = replace(zoo, onward=True, minutes=0)
    train_one(stopped, "edm")
    card = read_card(zoo.path("edm"))
    assert card.training["images_seen"] == first.training["images_seen"] > 0
    assert card.training["continues"] == first.sha256 == card.sha256  # nothing was trained: the same weights
    for _ in range(2):  # to its end, and once more
        train_one(replace(zoo, onward=True), "edm")
        card = read_card(zoo.path("edm"))
        assert card.training["images_seen"] == 2 * first.training["images_seen"]
        assert card.training["continues"] == first.sha256 != card.sha256
    with pytest.raises(FileNotFoundError, match="leave out --from-weights"):
        train_one(replace(zoo, onward=True), "ddpm")
    (zoo.work() / "edm.pt").unlink()  # the next test's edm is another one


def test_the_control_of_a_classifier_of_purified_images_sees_them_as_they_are(zoo, monkeypatch):
    """The same recipe and the same draws: with a purification that changes nothing, the same weights."""
    monkeypatch.setattr(stage, "purified_at", lambda *_: lambda x, generator: x)
    train_one(zoo, "classifier-ft")
    _, card = read_cnn(zoo.path("classifier-ft"))
    monkeypatch.setattr(stage, "purified_at", None)  # is not called
    train_one(replace(zoo, unpurified=True, fresh=True), "classifier-ft")
    _, control = read_cnn(zoo.path("classifier-ft"))
    assert control["sha256"] == card["sha256"]
    settings = {**card["training"]["recipe"]}
    assert control["training"]["recipe"] == {**settings, "levels": []} != settings
    assert control["training"]["validation"]["purified"] == card["training"]["validation"]["purified"]


def test_a_classifier_of_purified_images_can_be_of_one_sigma_alone(zoo):
    path, _ = train_one(replace(zoo, sigmas=(0.5,)), "classifier-ft")
    assert path.name == "classifier-ft-0.5.safetensors"
    assert read_cnn(path)[1]["training"]["recipe"]["levels"] == [1.0]  # of images in [-1,1]


def test_only_a_classifier_of_purified_images_has_that_control(tmp_path):
    with pytest.raises(InputError, match="without noise: leave out --sigmas"):
        train(Job("mnist5k", out=str(tmp_path), unpurified=True, sigmas=(0.5,)), ["classifier-ft"])
    with pytest.raises(InputError, match="add --stages classifier-ft"):
        train(Job("mnist5k", out=str(tmp_path), unpurified=True), ["classifier", "classifier-ft"])
    assert not [*tmp_path.iterdir()]


def test_a_classifier_begins_another_cycle_with_its_weights(tmp_path):
    job = Job("mnist5k", out=str(tmp_path), scale=0.002)
    train_one(job, "classifier")
    path, work = job.path("classifier"), job.work() / "classifier.pt"
    first, before = read_cnn(path)
    work.unlink()
    train_one(replace(job, onward=True, minutes=0), "classifier")
    _, card = read_cnn(path)
    assert card["sha256"] == before["sha256"]  # nothing was trained: the same weights
    for _ in range(2):  # to its end, and once more
        train_one(replace(job, onward=True), "classifier")
        _, card = read_cnn(path)
        assert card["training"]["continues"] == before["sha256"] != card["sha256"]
        assert card["training"]["epochs"] == 2 * before["training"]["epochs"] > 0
        assert len(card["training"]["losses"]) == card["training"]["epochs"]
        assert card["training"]["losses"][1] < card["training"]["losses"][0]
    with pytest.raises(ValueError, match="another architecture"):
        train_classifier(
            read_recipe("classifiers", "cifar10")["classifier"],
            torch.zeros(4, 1, 28, 28),
            torch.zeros(4),
            10,
            before=(first, before),
        )


def test_a_classifier_of_noisy_images_starts_from_the_clean_one_and_says_what_it_saw(zoo):
    path, _ = train_one(replace(zoo, seed=4), "noisy-classifier")
    _, card = read_cnn(path)
    _, clean = read_cnn(zoo.path("classifier"))
    training, sigmas = card["training"], read_recipe("classifiers", "mnist5k")["noisy-classifier"]["sigmas"]
    assert path.name == "noisy-classifier.safetensors" and card["sha256"] != clean["sha256"]
    assert (training["starts_from"], training["continues"]) == ("classifier", clean["sha256"])
    assert training["recipe"]["sigmas"] == sigmas == [0.25, 0.5, 1.0] and training["seed"] == 4 + 3
    assert training["validation"]["noisy"].keys() == {"0.25", "0.5", "1"}
    curve = pd.read_csv(zoo.work() / "noisy-classifier.csv")
    assert {f"val error, sigma = {sigma:g}" for sigma in sigmas} <= {*curve.iloc[:, 1]}


def test_a_classifier_of_noisy_images_can_be_of_one_level_alone(zoo):
    _, of_all = read_cnn(train_one(replace(zoo, seed=4, fresh=True), "noisy-classifier")[0])
    alone = train_one(replace(zoo, seed=4, fresh=True, sigmas=(1.0,)), "noisy-classifier")[0]
    assert alone.name == "noisy-classifier-1.safetensors" and (zoo.work() / "noisy-classifier-1.csv").is_file()
    _, card = read_cnn(alone)
    assert card["training"]["recipe"] == {**of_all["training"]["recipe"], "sigmas": [1.0]}
    assert card["training"]["validation"]["noisy"].keys() == {"1"} and card["sha256"] != of_all["sha256"]


@pytest.mark.parametrize(
    ("stage", "option"), [("classifier-ft", {"unpurified": True}), ("noisy-classifier", {"sigmas": (0.5, 1.0)})]
)
def test_a_network_of_another_kind_does_not_replace_the_bundled_one(stage, option):
    with pytest.raises(InputError, match="add --out FOLDER"):
        train(Job("mnist5k", **option), [stage])


@pytest.mark.parametrize(
    ("stages", "levels", "message"),
    [
        (["noisy-classifier", "edm"], (1.0,), "add --stages classifier-ft or noisy-classifier"),
        (["edm"], (1.0,), "add --stages classifier-ft or noisy-classifier"),
        (None, (1.0,), "add --stages classifier-ft or noisy-classifier"),
        (["noisy-classifier"], (0.5, 0.0), "must be positive"),
    ],
)
def test_only_a_classifier_of_noisy_images_has_levels_and_they_are_positive(tmp_path, stages, levels, message):
    with pytest.raises(InputError, match=message):
        train(Job("mnist5k", out=str(tmp_path), sigmas=levels), stages)
    assert not [*tmp_path.iterdir()]


def test_curves_are_kept_as_a_table_and_a_picture(tmp_path):
    state = {"losses": [(10, 0.5), (20, 0.25)], "validations": [(20, {"val MSE, t = 1": 0.1})]}
    write_curve(tmp_path / "edm.csv", state, batch=4)
    table = pd.read_csv(tmp_path / "edm.csv")
    assert table.values.tolist() == [[40, "loss", 0.5], [80, "loss", 0.25], [80, "val MSE, t = 1", 0.1]]
    assert draw_curves(tmp_path).stat().st_size > 5_000
    (tmp_path / "edm.csv").rename(tmp_path / "edm-before.csv")
    write_curve(tmp_path / "edm.csv", state, batch=4)  # a training that goes on from there
    images = pd.read_csv(tmp_path / "edm.csv")["images"]
    assert images.tolist() == [40, 80, 80, 120, 160, 160]
    assert draw_curves(tmp_path / "empty") is None


def test_gains_are_differences_of_the_figures_that_both_have():
    before = {"denoising_mse": {"1": 0.5}}
    assert _gains({"denoising_mse": {"1": 0.25}, "accuracy_of_one_draw": {"1": 0.9}}, before) == {
        "denoising_mse": {"1": -0.25}
    }


def test_the_card_of_a_consistency_model_of_two_methods_names_the_one_that_was_not_kept(zoo, monkeypatch):
    read = stage.read_recipe

    def both(package, dataset):
        recipe = read(package, dataset)
        recipe["cm"] |= {
            "methods": ["distillation", "tuning"],
            "scales": 18,
            "p_mean": -1.1,
            "p_std": 1.5,
            "doublings": 4,
        }
        return recipe

    monkeypatch.setattr(stage, "read_recipe", both)
    for name in ("edm", "cm"):
        train_one(zoo, name)
    card = json.loads(zoo.path("cm").with_suffix(".json").read_text())["training"]
    assert {card["method"], *card["not_kept"]} == {"distillation", "tuning"}
    assert set(card["against_start"]) == {"denoising_mse", "accuracy_of_one_draw"}
