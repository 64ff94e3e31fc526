"""Networks meet images that they were not made for: refused by name, before anything is counted."""

from __future__ import annotations

import pytest
from command import OK, REFUSED, run, summary_of
from own_images import draw_shapes

NETWORK = "network 'edm' ({zoo}/edm.safetensors) is for images of 1x28x28"


@pytest.fixture
def three_classes(tiny_zoo, tmp_path):
    """The path of a classifier for greyscale images of three classes."""
    import torch

    from classifiers.nets.cnn import CNN
    from classifiers.nets.files import save_cnn

    facts = {"channels": 1, "classes": 3, "widths": [4, 8], "depths": [1, 1]}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return str(save_cnn(tmp_path / "three.safetensors", CNN(**facts), facts, {}))


def test_a_folder_of_greyscale_images_is_certified_by_networks_of_one_channel(
    cli, tiny_preset, three_classes, tmp_path
):
    draw_shapes(tmp_path / "shapes", 2)
    preset = tiny_preset(dataset="folder", data="shapes", classifier={"name": "cnn", "path": three_classes})
    result = run(cli, preset, "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output
    assert [row["images"] for row in summary_of(cli, tmp_path / "out")["rows"]] == [3, 3]


def refusal(result):
    assert result.exit_code == REFUSED and "Traceback" not in result.output, result.output
    return result.stderr


@pytest.mark.parametrize(
    ("side", "mode", "found", "remedy"),
    [
        (28, "RGB", "3x28x28", "save the images as greyscale files"),
        (32, "L", "1x32x32", "cut and scale your images by `--size 28`"),
    ],
)
def test_a_network_of_other_channels_or_size_is_refused_with_both_names_and_the_remedy(
    cli, tiny_preset, tiny_zoo, three_classes, tmp_path, side, mode, found, remedy
):
    draw_shapes(tmp_path / "shapes", 2, side, mode)
    chosen = {"name": "cnn", "path": three_classes} if mode == "L" else str(_colours(tmp_path))
    preset = tiny_preset(dataset="folder", data="shapes", purifiers=["onestep-edm"], classifier=chosen)
    said = refusal(run(cli, preset, "--out", tmp_path / "out"))
    assert NETWORK.format(zoo=tiny_zoo) in said and f"of the data set 'folder' are {found}" in said
    assert remedy in said and "name one of" in said and "bench train" in said


def test_a_network_for_another_bundled_data_set_is_refused_without_advice_about_images_of_ones_own(
    cli, tiny_preset, tmp_path
):
    preset = tiny_preset(networks={"edm": "cifar10/edm"}, purifiers=["onestep-edm"])
    said = refusal(run(cli, preset, "--out", tmp_path / "out"))
    assert "is for images of 3x32x32" in said and "`bench list` shows the bundled ones" in said
    assert "save the images" not in said and "--size" not in said


def test_a_classifier_of_other_channels_is_refused_with_both_names(cli, tiny_preset, three_classes, tmp_path):
    draw_shapes(tmp_path / "shapes", 2, 28, "RGB")
    chosen = {"name": "cnn", "path": three_classes}
    preset = tiny_preset(dataset="folder", data="shapes", purifiers=["none"], classifier=chosen)
    said = refusal(run(cli, preset, "--out", tmp_path / "out"))
    assert f"classifier 'cnn(path={three_classes})' is for images of 1 channel, and those of the data set" in said
    assert "'folder' are 3x28x28" in said and "save the images as greyscale files" in said


def _colours(folder):
    """A classifier plugin for images of any channels, three classes."""
    path = folder / "colours.py"
    path.write_text(
        "from dataclasses import dataclass\n\nfrom classifiers.base import Classifier\n\n\n@dataclass(frozen=True)\n"
        'class Colours(Classifier):\n    name = "colours"\n    source = "a test"\n\n'
        '    def load(self, device="cpu"):\n        return lambda x: x.mean((1, 2))[:, :3]\n'
    )
    return path
