"""What is loaded is what was planned: weights that change under a run are noticed, and change none of its counts."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bench.engine.loader import LoadError, _in_own_memory, _refuse_changed
from bench.records import Cell
from bench.store.run import read_run

OK, FAILED, REFUSED = 0, 1, 2
SWAPPING = """
import shutil
from dataclasses import dataclass
from pathlib import Path
from purifiers.base import Purifier

@dataclass(frozen=True)
class Swaps(Purifier):
    '''Replaces weights while it purifies, as somebody else on the machine might.'''
    name = "swaps"

    def purify(self, x, sigma, networks, rng):
        for new, old in {pairs}:
            shutil.copyfile(new, old)
        return x.clamp(0, 1)
"""


@pytest.fixture
def zoo(tiny_zoo: Path, tmp_path: Path) -> Path:
    """A copy of the tiny zoo whose files may be replaced."""
    return shutil.copytree(tiny_zoo, tmp_path / "zoo")


@pytest.fixture
def swapping(tmp_path: Path):
    """A factory of a purifier that copies files over others: `swapping({new: old})`."""

    def write(files: dict[Path, Path]) -> str:
        path = tmp_path / "swaps.py"
        path.write_text(SWAPPING.format(pairs=[(str(new), str(old)) for new, old in files.items()]))
        return str(path)

    return write


def both(new: Path, old: Path) -> dict[Path, Path]:
    """A weight file and its card."""
    return {new.with_suffix(suffix): old.with_suffix(suffix) for suffix in (".safetensors", ".json")}


def votes(folder: Path, purifier: str) -> list[tuple]:
    run = read_run(folder)
    mine = [key for key, cell in run.cells.items() if cell.purifier == purifier]
    found = run.blocks[run.blocks["cell"].isin(mine)].sort_values(["image", "stage", "first"])
    return [(*row, tuple(v)) for *row, v in found[["image", "stage", "first", "votes"]].values.tolist()]


def test_weights_that_are_replaced_before_they_are_loaded_end_the_run_and_the_next_counts_the_new_ones(
    cli, tiny_preset, tmp_path, zoo, swapping
):
    """File and card together, so that each is as the other says; the cell was planned for what was there before."""
    networks = {"edm": str(zoo / "edm.safetensors")}
    plugin = swapping(both(zoo / "cm.safetensors", zoo / "edm.safetensors"))
    new = both(zoo / "cm.safetensors", tmp_path / "new.safetensors")
    path = tiny_preset(purifiers=[plugin, "onestep-edm"], networks=networks, batch=24)
    result = cli("run", path, "--out", tmp_path / "out", "--no-plots")
    assert result.exit_code == REFUSED
    assert "network 'edm'" in result.stderr and str(zoo / "edm.safetensors") in result.stderr
    assert "changed since this run was planned" in result.stderr and "run the command again" in result.stderr
    assert not votes(tmp_path / "out", "swaps") and not votes(tmp_path / "out", "onestep-edm")

    assert cli("run", path, "--out", tmp_path / "out", "--no-plots").exit_code == OK
    for source, copy in new.items():
        shutil.copyfile(source, copy)
    alone = tiny_preset("alone", purifiers=["onestep-edm"], networks={"edm": str(tmp_path / "new.safetensors")})
    assert cli("run", alone, "--out", tmp_path / "alone", "--no-plots").exit_code == OK
    assert votes(tmp_path / "out", "onestep-edm") == votes(tmp_path / "alone", "onestep-edm")
    assert votes(tmp_path / "out", "swaps")


def test_a_classifier_that_is_replaced_before_it_is_loaded_ends_the_run(cli, tiny_preset, tmp_path, zoo, monkeypatch):
    from classifiers.nets.files import read_cnn, save_cnn
    from classifiers.own import OwnCNN

    path, other = zoo / "classifier.safetensors", tmp_path / "other.safetensors"
    model, card = read_cnn(path)
    nn.init.ones_(model.linear.bias)
    save_cnn(other, model, card["architecture"], card["training"])
    load = OwnCNN.load

    def late(self, device="cpu"):
        """Somebody trains the classifier again while the run starts."""
        shutil.copyfile(other, path)
        return load(self, device)

    monkeypatch.setattr(OwnCNN, "load", late)
    preset = tiny_preset(purifiers=["none"], classifier={"name": "cnn", "path": str(path)})
    result = cli("run", preset, "--out", tmp_path / "out", "--no-plots")
    assert result.exit_code == REFUSED
    assert "classifier 'cnn' changed since this run was planned" in result.stderr
    assert not len(read_run(tmp_path / "out").blocks)


def test_weights_that_are_overwritten_after_they_were_loaded_change_no_count(cli, tiny_preset, tmp_path, zoo, swapping):
    """In place, as `cp` does, while the networks are in use."""
    networks = {"edm": str(zoo / "edm.safetensors")}
    plugin = swapping(both(zoo / "cm.safetensors", zoo / "edm.safetensors"))
    path = tiny_preset(purifiers=["onestep-edm", plugin], networks=networks, batch=24, images=6)
    undisturbed = tiny_preset("undisturbed", purifiers=["onestep-edm"], networks=networks, images=6)
    assert cli("run", undisturbed, "--out", tmp_path / "undisturbed", "--no-plots").exit_code == OK
    assert cli("run", path, "--out", tmp_path / "out", "--no-plots").exit_code == OK
    assert votes(tmp_path / "out", "onestep-edm") == votes(tmp_path / "undisturbed", "onestep-edm")


def mapped(path: Path) -> nn.Module:
    """A layer whose weights are those of the file itself, as some libraries load them."""
    with torch.device("meta"):
        layer = nn.Linear(256, 256)
    layer.load_state_dict(load_file(path), assign=True)
    return layer


@pytest.mark.parametrize("owned", [True, False])
def test_a_file_that_is_overwritten_reaches_only_weights_that_are_mapped(tmp_path, owned):
    path, x = tmp_path / "weights.safetensors", torch.ones(1, 256)
    save_file(nn.Linear(256, 256).state_dict(), path)
    layer = _in_own_memory(mapped(path)) if owned else mapped(path)
    before = layer(x).detach().clone()
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(len(content) // 2)
        file.write(b"\x3f" * (len(content) // 4))
    assert torch.equal(layer(x), before) == owned


def test_a_network_of_its_own_memory_is_the_same_network():
    layer = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).eval().to(memory_format=torch.channels_last)
    layer.add_module("tied", layer[0])
    x = torch.rand(2, 3, 8, 8)
    before = layer[:2](x)
    with torch.inference_mode():
        assert _in_own_memory(layer) is layer
    assert torch.equal(layer[:2](x), before)
    assert layer[0].weight is layer.tied.weight
    assert layer[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert layer[:2](x).requires_grad  # it can still be trained by who made it
    assert _in_own_memory(len) is len


def test_what_has_no_hash_in_the_identity_is_not_refused():
    cell = Cell("a", {}, "cnn", {}, "mnist5k", "data", 0.5, 0, "fp32", "cpu", {"network edm": "one"})
    _refuse_changed(cell, "network 'edm'", "network edm", "one")
    _refuse_changed(cell, "network 'ddpm'", "network ddpm", "whatever")
    with pytest.raises(LoadError, match="network 'edm' changed since this run was planned"):
        _refuse_changed(cell, "network 'edm'", "network edm", "two")
    _refuse_changed(dataclasses.replace(cell, hashes={}), "network 'edm'", "network edm", "two")


CLASSES = """
from dataclasses import dataclass
from classifiers.base import Classifier

@dataclass(frozen=True)
class Other(Classifier):
    name = "other"
    source = "a test"

    def load(self, device="cpu"):
        return lambda x: x.flatten(1)[:, 300:{end}]
"""


@pytest.mark.parametrize("classes", [1, 9, 11, 100])
def test_a_classifier_of_another_number_of_classes_is_refused_at_the_first_batch(cli, tiny_preset, tmp_path, classes):
    plugin = tmp_path / "other.py"
    plugin.write_text(CLASSES.format(end=300 + classes))
    result = cli("run", tiny_preset(), "--classifier", plugin, "--out", tmp_path / "out", "--no-plots")
    assert result.exit_code == REFUSED
    assert f"has {classes} classes, and MNIST has 10" in result.stderr and "--classifier" in result.stderr
    assert not len(read_run(tmp_path / "out").blocks)


def test_a_table_without_names_has_at_least_as_many_classes_as_its_labels_say(tiny_preset):
    import numpy as np

    from bench.data.split import Split
    from bench.records import Block, Cost, Counts
    from bench.sweep import preset
    from bench.sweep.plan import make_plan

    planned = make_plan(preset.load_preset(str(tiny_preset()), {}), "cpu")
    counts = [Counts(Block("k", 0, "estimate", 0, 5), (5, 0, 0, 0), Cost(0, 5, 0, 0, 0, 0, "CPU"))]
    images, labels = np.zeros((3, 1, 2, 2), np.float32), np.arange(3)
    numbered = dataclasses.replace(planned, split=Split("parquet", images, labels, ("0", "1", "2")))
    numbered.refuse_votes(counts)
    for dataset, classes in (("parquet", ("0", "1", "2", "3", "4")), ("parquet", ("a", "b", "c")), ("folder", "012")):
        other = dataclasses.replace(planned, split=Split(dataset, images, labels, tuple(classes)))
        with pytest.raises(ValueError, match=f"has 4 classes, and a .* has {len(classes)}"):
            other.refuse_votes(counts)
