"""What makes a cell stale, and what does not; images are checked by their pixels when a run is continued."""

from __future__ import annotations

import io
import json
from dataclasses import asdict

import numpy as np
import PIL
import pytest
from PIL import Image

from bench.data import Split
from bench.data.pixels import Encoded
from bench.engine import versions
from bench.records import Cell, key_of
from bench.sweep import plan as plans
from bench.sweep.preset import load_preset


def keys(path, **overrides):
    return [cell.key for cell in plans.make_plan(load_preset(str(path), overrides), "cpu").cells]


def test_more_images_and_other_draws_make_no_cell_stale(tiny_preset):
    assert keys(tiny_preset()) == keys(tiny_preset("more", images=9, n=77, n0=12, alpha=0.01, batch=3))


def test_a_new_row_in_the_table_of_known_networks_makes_no_cell_stale(tiny_preset, monkeypatch):
    from purifiers.nets.hub import known

    before = keys(tiny_preset())
    monkeypatch.setitem(known.NETWORKS, "new", next(iter(known.NETWORKS.values())))
    assert keys(tiny_preset()) == before


@pytest.mark.parametrize("name", ["NOISE_VERSION", "ENGINE_VERSION", "CLASSIFIER_NETS_VERSION"])
def test_a_new_version_number_makes_every_cell_stale(tiny_preset, monkeypatch, name):
    before = keys(tiny_preset())
    monkeypatch.setattr(plans, name, versions.ENGINE_VERSION + 1)
    assert not set(keys(tiny_preset())) & set(before)


def test_a_new_version_of_the_networks_leaves_plain_smoothing_as_it_is(tiny_preset, monkeypatch):
    path = tiny_preset(purifiers=["none", "onestep-edm"], sigmas=[0.5])
    before = keys(path)
    monkeypatch.setattr(plans, "NETS_VERSION", 99)
    none, edm = keys(path)
    assert none == before[0] and edm != before[1]


@pytest.fixture
def folder(tmp_path):
    """A data set `folder` of BMP files, whose sizes do not change with their pixels."""
    draw = np.random.default_rng(0)
    for label in range(10):
        (tmp_path / "digits" / str(label)).mkdir(parents=True)
        for k in range(2):
            Image.fromarray(draw.integers(0, 255, (28, 28), np.uint8)).save(tmp_path / f"digits/{label}/{k}.bmp")
    return tmp_path / "digits"


TEN = """
from dataclasses import dataclass
from classifiers.base import Classifier

@dataclass(frozen=True)
class Ten(Classifier):
    name = "ten"
    source = "a test"

    def load(self, device="cpu"):
        return lambda x: x.flatten(1)[:, :10]
"""


def test_a_run_with_changed_pixels_is_refused_before_anything_is_counted(
    cli, tiny_preset, folder, tmp_path, monkeypatch
):
    (tmp_path / "ten.py").write_text(TEN)
    fields = {"purifiers": ["none"], "sigmas": [0.5], "classifier": {"name": str(tmp_path / "ten.py")}}
    path = tiny_preset(dataset="folder", data=str(folder), images=4, **fields)
    command = ["run", path, "--out", tmp_path / "out", "--no-plots"]
    assert cli(*command).exit_code == 0
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert len(manifest["pixels"]) == 4 and all(len(digest) == 16 for digest in manifest["pixels"].values())
    assert cli(*command, "--images", "6").exit_code == 0
    Image.fromarray(np.full((28, 28), 9, np.uint8)).save(folder / "0" / "0.bmp")
    monkeypatch.setattr(PIL, "__version__", "0.1")
    refused = cli(*command)
    assert refused.exit_code == 2 and "is not the image that" in refused.stderr and "--out" in refused.stderr
    assert f"decoded with pillow 0.1, and with {manifest['libraries']['pillow']} then" in " ".join(
        refused.stderr.split()
    )


def test_images_of_the_hub_are_told_by_their_pixels():
    """Two data sets of equal names and labels, read one by one as those of the hub are."""
    first, other = (
        Split("imagenet64", Encoded.of_bytes([encoded], None), np.zeros(1, np.int64), ("a",))
        for encoded in (bmp(0), bmp(9))
    )
    assert first.pixel_hash(0) != other.pixel_hash(0)


def bmp(grey):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(buffer, "BMP")
    return buffer.getvalue()


def test_a_folder_of_exports_with_another_identity_is_never_hidden(cli, tiny_preset, tmp_path):
    path, out = tiny_preset(images=2, purifiers=["none"], sigmas=[0.5]), tmp_path / "out"
    assert cli("run", path, "--out", out, "--no-plots").exit_code == 0
    for file in out.glob("run.sqlite*"):
        file.unlink()
    assert cli("run", path, "--out", out, "--no-plots", "--alpha", "0.01").exit_code == 0  # the same cells
    for file in out.glob("run.sqlite*"):
        file.unlink()
    refused = cli("run", path, "--out", out, "--no-plots", "--seed", "5")
    assert refused.exit_code == 2 and "would hide them" in refused.stderr and "seed" in refused.stderr
    assert not list(out.glob("run.sqlite*"))


def test_the_noise_is_part_of_a_key_only_if_it_is_discrete(tiny_preset):
    path = str(tiny_preset())
    gaussian, discrete = (
        plans.make_plan(load_preset(path, {"noise": noise}), "cpu").cells[0] for noise in ("gaussian", "discrete")
    )
    facts = {name: value for name, value in asdict(gaussian).items() if name != "noise"}
    assert key_of(facts) == gaussian.key != discrete.key
    assert "noise" not in json.loads(gaussian.to_json()) and Cell.from_json(discrete.to_json()) == discrete
    assert "discrete noise" in discrete.versions and "discrete noise" not in gaussian.versions
