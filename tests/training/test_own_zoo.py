"""A zoo for own images by one command: recipes that are derived, and stages that are missing."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace

import pytest
from command import OK, REFUSED, run, summary_of
from own_images import draw_shapes
from short_training import shorten

from bench.plugins.registry import PURIFIER, create
from bench.sweep import Plugin
from bench.training import derived
from bench.training.derived import Images, derive, images_of
from bench.training.jobs import NEEDS, Job
from bench.training.own import _PURIFIERS, write_preset
from bench.training.stage import train_one
from purifiers.nets.hub.cards import read_card


@pytest.fixture
def shapes(tmp_path):
    """120 training images, of which 12 serve for validation, and 12 test images of three shapes, 16 pixels wide."""
    draw_shapes(tmp_path / "shapes" / "train", 40, 16)
    draw_shapes(tmp_path / "shapes" / "test", 4, 16, seed=1)
    return tmp_path / "shapes"


@pytest.fixture
def short(monkeypatch):
    shorten(monkeypatch, 12)


@pytest.mark.parametrize(
    ("images", "widths", "patch"),
    [
        (Images(500, 1, 8), [16, 32], 1),
        (Images(500, 1, 28), [16, 32], 2),
        (Images(500, 3, 28), [64, 80], 2),  # 28 pixels do not divide into three levels of patches of 2
        (Images(500, 3, 32), [64, 80, 80], 2),
        (Images(50_000, 1, 64), [64, 80, 80], 4),
    ],
)
def test_the_architecture_follows_from_size_channels_and_number(images, widths, patch):
    from classifiers.nets.cnn import CNN
    from purifiers.nets.architectures.unet import PixelUNet

    recipe = derive("purifiers", images)
    assert (recipe["architecture"]["widths"], recipe["architecture"]["unshuffle"]) == (widths, patch)
    PixelUNet(channels=images.channels, image_size=images.side, **recipe["architecture"])
    import torch

    x = torch.zeros(2, images.channels, images.side, images.side)
    for stage in ("classifier", "features"):
        network = CNN(images.channels, 5, **derive("classifiers", images)[stage]["architecture"]).eval()
        assert network(x).shape == (2, 5)


def test_the_lengths_follow_from_the_number_of_images():
    def seen(count):
        recipe = derive("purifiers", Images(count, 1, 28))
        return {
            stage: recipe[stage]["steps"] * recipe[stage]["batch"] for stage in ("edm", "cm-ft", "edm-ft", "edm-cal")
        }

    few, more, many = (seen(count) for count in (100, 10_000, 1_000_000))
    assert few["edm"] == 80_000 and more["edm"] == 400_000 and many["edm"] == 2_560_000
    for lengths in (few, more, many):  # fine-tunings that are compared have one budget
        assert lengths["cm-ft"] == lengths["edm-ft"] == lengths["edm-cal"] < lengths["edm"]
    classifiers = derive("classifiers", Images(40, 1, 28))
    assert all(recipe["batch"] == 5 and recipe["epochs"] * 40 >= 12_000 for recipe in classifiers.values())


def test_a_zoo_for_own_images_is_trained_and_certified_by_the_preset_that_is_written(
    cli, shapes, tmp_path, monkeypatch, short
):
    """All stages for a moment, each in this process; the command itself runs one of them."""
    monkeypatch.chdir(tmp_path)
    job = Job("folder", "results/zoos/shapes", str(shapes), scale=0.0005, unchecked=True)
    for stage in sorted({*NEEDS} - {"edm-cal"}, key=lambda stage: (len(NEEDS[stage]), stage == "cm-ft")):
        train_one(job, stage)
    options = ("--dataset", "folder", "--data", shapes, "--scale", 0.0005, "--jobs", 2)  # a thread for each
    result = cli("train", *options, "--stages", "edm-cal")
    assert result.exit_code == OK, result.output
    assert "recipes derived from 108 training images of 1x16x16" in result.stdout
    assert "try it:  python -m bench run results/zoos/shapes/shapes.toml" in result.stdout

    preset = tomllib.loads((tmp_path / "results/zoos/shapes/shapes.toml").read_text())
    assert (
        preset["data"] == "../../../shapes"
        and preset["images"] == 12
        and set(preset["networks"]) == {stage for stage in NEEDS if "classifier" not in stage and stage != "features"}
    )
    of_its_own = [f"none@cnn:path={job.path('noisy-classifier')}", f"onestep-edm@cnn:path={job.path('classifier-ft')}"]
    assert preset["purifiers"][-2:] == of_its_own
    noisy = job.path("noisy-classifier")
    for sigma in preset["sigmas"]:  # as `--stages noisy-classifier --sigmas` names them
        shutil.copy(noisy, replace(job, sigmas=(sigma,)).path("noisy-classifier"))
    written = tomllib.loads(write_preset(replace(job, sigmas=(0.5,))).read_text())["purifiers"]
    each = noisy.with_stem("noisy-classifier-{sigma}")
    assert written == [*preset["purifiers"][:-1], f"none@cnn:path={each}", of_its_own[1]]
    card = read_card(job.path("edm")).training
    assert card["images"] == 108 and len(card["images_sha256"]) == 64
    fast = ("--images", 3, "--sigmas", 0.5, "--n", 20, "--rows", 8, "--workers", 1, "--batch", 64)
    chosen = "none,onestep-ddpm,onestep-edm,onestep-edm-ft,onestep-edm-cal,consistency,consistency-ft"
    certified = run(cli, "results/zoos/shapes/shapes.toml", *fast, "--purifiers", chosen, "--out", "out")
    assert certified.exit_code == OK, certified.output
    assert {row["purifier"]: row["images"] for row in summary_of(cli, "out")["rows"]} == dict.fromkeys(
        chosen.split(","), 3
    )


@pytest.mark.parametrize(("stage", "names"), _PURIFIERS.items())
def test_a_preset_of_own_images_asks_for_no_network_but_that_of_the_stage(stage, names):
    for plugin in (Plugin.model_validate(name) for name in names):
        assert create(PURIFIER, plugin.name, plugin.parameters).networks == (stage,)


def test_stages_that_are_missing_are_named_before_anything_starts(cli, shapes, tmp_path):
    options = ("--dataset", "folder", "--data", shapes, "--out", tmp_path / "zoo")
    result = cli("train", *options, "--stages", "cm,edm-ft")
    assert result.exit_code == REFUSED and "started" not in result.output
    assert "cm reads the networks of classifier, features, edm, and" in result.stderr
    assert "(--stages classifier,features,edm,cm,edm-ft)" in result.stderr
    onward = cli("train", *options, "--stages", "classifier", "--from-weights")
    assert onward.exit_code == REFUSED and "classifier has no weights in" in onward.stderr
    assert not (tmp_path / "zoo").exists()


@pytest.mark.parametrize(
    ("side", "size", "said"),
    [(27, None, "give `--size 28`"), (50, None, "give `--size 48`"), (4, None, "give `--size 8`"), (27, 28, "")],
)
def test_a_size_for_which_no_network_can_be_made_is_refused_with_one_that_can(tmp_path, side, size, said):
    draw_shapes(tmp_path / "train", 2, side)
    job = Job("folder", data=str(tmp_path), size=size)
    if said:
        with pytest.raises(derived.InputError, match=said):
            images_of(job)
    else:
        assert images_of(job) == Images(3, 1, 28)


def test_images_without_a_training_part_are_refused_with_the_layout(cli, tmp_path):
    draw_shapes(tmp_path / "photos", 2)
    result = cli("train", "--dataset", "folder", "--data", tmp_path / "photos", "--out", tmp_path / "zoo")
    assert result.exit_code == REFUSED and "has no part `train`: it must have a subfolder train" in result.stderr
    nowhere = cli("train", "--dataset", "folder")
    assert nowhere.exit_code == REFUSED and "needs the path of your files" in nowhere.stderr


def test_other_images_do_not_continue_the_training_of_these(shapes, tmp_path, short):
    """Their data set's name is the same: the checkpoint tells them apart by the images themselves."""
    job = Job("folder", str(tmp_path / "zoo"), str(shapes), scale=0.0005)
    train_one(job, "classifier")
    draw_shapes(tmp_path / "other" / "train", 40, 16, seed=7)
    with pytest.raises(ValueError, match="belongs to another recipe: images_sha256 was"):
        train_one(Job("folder", job.out, str(tmp_path / "other"), scale=0.0005), "classifier")
    assert json.loads((job.path("classifier").with_suffix(".json")).read_text())["training"]["images"] == 108
