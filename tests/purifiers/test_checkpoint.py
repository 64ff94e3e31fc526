"""A training that is interrupted: it goes on where it was, to the same weights."""

import json
import pickle
from dataclasses import replace

import pandas as pd
import pytest
import torch

from bench import data
from bench.training import stage
from bench.training.checkpoint import Checkpoint, CheckpointError
from bench.training.curves import draw_curves, write_curve
from bench.training.jobs import Job, read_recipe
from bench.training.stage import _gains, train_one
from classifiers.nets.cnn import CNN
from classifiers.nets.files import read_cnn
from classifiers.training.fit import train_classifier
from purifiers.nets.hub.cards import Card, read_card
from purifiers.nets.hub.files import build
from purifiers.training import loop
from purifiers.training.loop import Schedule, _learning_rate_factor, fit
from purifiers.training.losses import edm_loss, tuning_loss

RECIPE = {
    "seed": 0, "epochs": 4, "batch": 50, "lr": 4e-3, "weight_decay": 0.01, "label_smoothing": 0.0,
    "rotation": 5, "scale": 0.1, "shift": 2, "flip": False, "architecture": {"widths": [4, 8], "depths": [1, 2]},
}  # fmt: skip


class Interrupted(Checkpoint):
    """A checkpoint that is written at one step, after which the process is as good as dead."""

    def __init__(self, path, recipe, at):
        super().__init__(path, recipe)
        self.steps_left = at

    def due(self):
        self.steps_left -= 1
        return self.steps_left == 0

    def left(self):
        return float(self.steps_left)


@pytest.fixture(scope="module")
def digits():
    part = data.load("mnist5k", "train")
    return torch.from_numpy(part.images[:200]), torch.from_numpy(part.labels[:200])


def small():
    torch.manual_seed(0)
    architecture = {"channels": 1, "image_size": 28, "widths": [8, 16], "groups": 4}
    return build(Card("edm", architecture, {"t_min": 0.002, "t_max": 6.0}))


def flat(model):
    return torch.cat([p.flatten().float() for p in model.state_dict().values()])


@pytest.mark.parametrize("optimizer", ["Adam", "RAdam"])
@pytest.mark.parametrize("at", [1, 4, 7])
def test_a_resumed_training_equals_an_undisturbed_one(digits, tmp_path, monkeypatch, optimizer, at):
    monkeypatch.setattr(loop, "_SPARSE", 3)
    schedule = Schedule(8, 16, 3e-3, 0.9, warmup=2, flip=True, optimizer=optimizer)

    def train(keeper):
        loss = edm_loss(-0.5, 1.1, 0.002, 6.0)
        return fit(small(), loss, digits[0], schedule, 3, validate=lambda m: {"x": 1.0}, keeper=keeper)

    path, recipe = tmp_path / "a.pt", {"lr": 3e-3}
    once = train(None)
    first = train(Interrupted(path, recipe, at))
    assert first.steps == at
    spent = Checkpoint(path, recipe).load()["seconds"]
    again = train(Checkpoint(path, recipe))
    assert again.steps == once.steps == 8
    assert torch.equal(flat(again.model), flat(once.model))
    assert again.losses == once.losses
    assert again.validations == once.validations == [(3, {"x": 1.0}), (6, {"x": 1.0})]
    assert again.seconds > spent > 0


def test_a_training_that_is_done_is_not_repeated(digits, tmp_path):
    schedule = Schedule(3, 16, 3e-3, 0.9)
    keeper = Checkpoint(tmp_path / "a.pt", {})
    first = fit(small(), edm_loss(-0.5, 1.1, 0.002, 6.0), digits[0], schedule, 0, keeper=keeper)

    def never(*_):
        raise AssertionError("trained again")

    again = fit(small(), never, digits[0], schedule, 0, keeper=keeper)
    assert torch.equal(flat(first.model), flat(again.model))


def test_a_longer_training_continues_a_shorter_one_where_the_rate_does_not_know_its_end(digits, tmp_path):
    def train(steps, keeper=None):
        schedule = Schedule(steps, 16, 3e-3, 0.9, plateau=2)
        return fit(small(), edm_loss(-0.5, 1.1, 0.002, 6.0), digits[0], schedule, 0, keeper=keeper)

    keeper = Checkpoint(tmp_path / "a.pt", {})
    train(3, keeper)
    assert torch.equal(flat(train(6, keeper).model), flat(train(6).model))


def test_the_rate_falls_with_the_inverse_root_after_its_plateau():
    schedule = Schedule(100, 1, 1.0, 0.9, warmup=4, plateau=10)
    assert _learning_rate_factor(0, schedule, 0.0) == 0.25
    assert _learning_rate_factor(10, schedule, 0.0) == 1
    assert _learning_rate_factor(40, schedule, 0.0) == pytest.approx(0.5)
    assert _learning_rate_factor(30, schedule, 0.0, earlier=10) == pytest.approx(0.5)
    assert _learning_rate_factor(0, schedule, 0.0, earlier=40) == pytest.approx(0.25 * 0.5)


def test_a_resumed_classifier_equals_an_undisturbed_one(digits, tmp_path):
    class OneEpoch(Checkpoint):
        seen = 0

        def save(self, state):
            super().save(state)
            self.seen += 1

        def left(self):
            return 2.0 - self.seen

    once, _, record = train_classifier(RECIPE, *digits, 10, validate=lambda m: {"a": 0.0})
    path = tmp_path / "c.pt"
    _, _, first = train_classifier(RECIPE, *digits, 10, validate=lambda m: {"a": 0.0}, keeper=OneEpoch(path, RECIPE))
    again, _, second = train_classifier(RECIPE, *digits, 10, keeper=Checkpoint(path, RECIPE))
    assert (first["epochs"], second["epochs"]) == (2, 4)
    assert torch.equal(flat(once), flat(again)) and record["losses"] == second["losses"]


def test_a_checkpoint_of_another_recipe_is_refused_and_says_what_changed(tmp_path):
    Checkpoint(tmp_path / "a.pt", {"lr": 1e-3, "batch": 128}).save({"step": 1})
    with pytest.raises(CheckpointError, match=r"lr was 0.001 and is 0.002.*--fresh"):
        Checkpoint(tmp_path / "a.pt", {"lr": 2e-3, "batch": 128}).load()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", pickle.dumps({"recipe": "{}"})])
def test_a_damaged_checkpoint_is_named_with_the_remedy(tmp_path, content):
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.pt cannot be read as a checkpoint.*delete it"):
        Checkpoint(tmp_path / "a.pt", {}).load()


def test_a_checkpoint_runs_nothing(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"recipe": "{}", "state": Hostile()}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError):
        Checkpoint(tmp_path / "a.pt", {}).load()
    assert not (tmp_path / "ran").exists()


def test_a_crash_while_writing_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    keeper = Checkpoint(tmp_path / "a.pt", {})
    keeper.save({"step": 1})

    def torn(content, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", torn)
    with pytest.raises(OSError, match="no space left"):
        keeper.save({"step": 2})
    assert keeper.load() == {"step": 1}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """A folder with a classifier that was trained for a moment, under both names; few images are validated."""
    patch = pytest.MonkeyPatch()
    patch.setattr(stage, "_LEAST_ROWS", 50)
    patch.setattr(stage, "_CURVE_IMAGES", 50)
    patch.setattr(stage, "_RATIO_IMAGES", 8)
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


def test_folding_early_pooling_keeps_the_function():
    torch.manual_seed(0)
    model = CNN(3, 10, [4, 6], [2, 3], early=True)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight)  # of both signs
            torch.nn.init.normal_(module.running_mean)
    x = torch.rand(3, 3, 16, 16)
    before = model.eval()(x)
    assert [m.shape[-1] for m in model.features(x)] == [8, 4]
    assert torch.allclose(model.fused()(x), before, atol=1e-5)


def test_tuning_compares_two_levels_of_one_noise_and_closes_the_gap():
    """The exact consistency function of a point mass at 0 is `f(u, t) = eps/t u`: it has no loss, others have."""
    gaps = {}

    class Exact(torch.nn.Module):
        def forward(self, u, t):
            self.met.append((u, t))
            return u * (0.002 / t).view(-1, 1, 1, 1)

    for progress in (0.0, 0.9):
        model = Exact()
        model.met = []
        loss = tuning_loss(-1.1, 1.5, 0.002, 3.0, 4)
        value = loss(model, model, torch.zeros(50, 1, 2, 2), torch.Generator().manual_seed(0), progress)
        assert float(value) < 1e-10
        (low, r), (high, t) = model.met
        assert bool((r < t).all())
        assert torch.allclose(low / r.view(-1, 1, 1, 1), high / t.view(-1, 1, 1, 1), atol=1e-5)
        gaps[progress] = float((1 - r / t).mean())
    assert gaps[0.9] < gaps[0.0] / 2
    wrong = tuning_loss(-1.1, 1.5, 0.002, 3.0, 4)
    assert float(wrong(lambda u, t: u, None, torch.zeros(50, 1, 2, 2), torch.Generator().manual_seed(0), 0.5)) > 0.01


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
