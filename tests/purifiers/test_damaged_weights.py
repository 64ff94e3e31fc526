"""A weight file that is damaged is refused by its name, with the remedy; other weights are another cell."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.store.run import read_run
from classifiers import hashing
from classifiers.base import ClassifierError
from classifiers.nets.files import load_cnn
from classifiers.own import OwnCNN
from purifiers.nets import load
from purifiers.nets.hub import cards
from purifiers.nets.hub.cards import WeightsError, _canonical, _read_header, with_facts
from purifiers.nets.hub.sources import find

OK, REFUSED = 0, 2


@pytest.fixture
def zoo(tiny_zoo, tmp_path):
    """A copy of the tiny zoo that may be damaged."""
    return shutil.copytree(tiny_zoo, tmp_path / "zoo")


@pytest.fixture
def run_zoo(cli, tiny_preset, tmp_path, zoo):
    """Run the tiny sweep on the copied zoo."""

    def run_it():
        networks = {role: str(zoo / f"{role}.safetensors") for role in ("ddpm", "edm")}
        classifier = {"name": "cnn", "path": str(zoo / "classifier.safetensors")}
        preset = tiny_preset(networks=networks, classifier=classifier, purifiers=["none", "onestep-edm"])
        return cli("run", preset, "--out", tmp_path / "out", "--no-plots")

    return run_it


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_a_bit(path, after):
    """Change one bit in the text after `after`; without a text, in the last byte of the tensors."""
    content = bytearray(path.read_bytes())
    content[content.index(after) + len(after) if after else -1] ^= 1
    path.write_bytes(content)


def describe(path, **fields):
    """Other facts in the header, with a checksum that fits."""
    metadata, _, _ = _read_header(path)
    facts = {**json.loads(metadata["purifybench"]), **fields}
    path.write_bytes(with_facts(path.read_bytes(), _canonical(facts)))


UNET = {"channels": 1, "image_size": 28, "widths": [8, 16], "layers": 1, "unshuffle": 2, "groups": 4}
DAMAGE = {
    "missing": lambda path: path.unlink(),
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "with another fact": lambda path: flip_a_bit(path, b'\\"widths\\":['),
    "with another name of its metadata": lambda path: flip_a_bit(path, b'"purifybenc'),
    "with another checksum": lambda path: flip_a_bit(path, b'"sha256":"'),
    "with another shape": lambda path: flip_a_bit(path, b'"shape":['),
    "with another weight": lambda path: flip_a_bit(path, b""),
    "without metadata": lambda path: save_file(load_file(path), path),
}
NETWORK_DAMAGE = DAMAGE | {
    "with an unknown field": lambda path: describe(path, colour="blue"),
    "of another width": lambda path: describe(path, architecture={**UNET, "widths": [16, 16]}),
    "of a width that groups refuse": lambda path: describe(path, architecture={**UNET, "widths": [9, 16]}),
    "of a size that does not divide": lambda path: describe(path, architecture={**UNET, "image_size": 27}),
    "of an unknown architecture": lambda path: describe(path, architecture={"hidden": 3}),
    "of an unknown kind": lambda path: describe(path, kind="flow"),
    "of a kind with other levels": lambda path: describe(path, kind="vp"),
}


@pytest.mark.parametrize("damage", NETWORK_DAMAGE)
def test_a_network_that_is_damaged_is_refused_by_its_file_with_the_remedy(zoo, damage):
    path = zoo / "edm.safetensors"
    NETWORK_DAMAGE[damage](path)
    with pytest.raises(WeightsError) as refusal:
        load(path)
    assert str(zoo / "edm.") in str(refusal.value)
    assert any(remedy in str(refusal.value) for remedy in ("restore it", "train the network again", "bench train"))


@pytest.mark.parametrize("damage", ["missing", "with another fact", "with another weight", "of another width"])
@pytest.mark.parametrize("name", ["edm", "classifier"])
def test_a_run_refuses_damaged_weights_and_names_the_file(run_zoo, zoo, name, damage):
    (NETWORK_DAMAGE if name == "edm" else CLASSIFIER_DAMAGE)[damage](zoo / f"{name}.safetensors")
    result = run_zoo()
    assert result.exit_code == REFUSED, result.output
    assert str(zoo / f"{name}.") in result.stderr


def identities(zoo):
    return find(zoo / "edm.safetensors").identity(), OwnCNN(str(zoo / "classifier.safetensors")).identity()


@pytest.mark.parametrize("cards", [("ddpm.json", "edm.json"), (None, None)], ids=["other cards", "no cards"])
def test_cards_change_nothing_that_is_computed(zoo, cards):
    x, before = torch.rand(1, 1, 28, 28), identities(zoo)

    def outputs():
        return load(zoo / "edm.safetensors")(x, 1.0), load_cnn(zoo / "classifier.safetensors")(x)

    first = outputs()
    for name, other in zip(("edm", "classifier"), cards, strict=True):
        card = zoo / f"{name}.json"
        shutil.copy(zoo / other, card) if other else card.unlink()
    assert all(torch.equal(a, b) for a, b in zip(outputs(), first, strict=True))
    assert identities(zoo) == before


def test_the_same_facts_and_weights_have_the_same_identity_and_others_another(zoo):
    path, before = zoo / "edm.safetensors", identities(zoo)[0]
    assert find(f"{path}?label=1").identity() != before
    shutil.copy(path, zoo / "copy.safetensors")
    assert find(zoo / "copy.safetensors").identity() == before
    facts = json.loads(_read_header(path)[0]["purifybench"])
    describe(path, denoiser={**facts["denoiser"], "t_max": 5.0})
    assert find(path).identity() not in (before, find(zoo / "edm-ft.safetensors").identity())


def test_a_plan_hashes_each_file_once_and_a_changed_file_again(zoo, tiny_preset, monkeypatch):
    from bench.sweep import plan, preset

    for path in zoo.glob("*.safetensors"):
        os.utime(path, (0, 0))  # as old as a file of the repository, not of this second
    counts = Counter()

    def counted(digest):
        def count(path, *rest):
            counts[path.name] += 1
            return digest(path, *rest)

        return count

    monkeypatch.setattr(cards, "_digest", counted(cards._digest))
    networks = {role: str(zoo / f"{role}.safetensors") for role in ("ddpm", "edm")}
    names = ["onestep-edm", "pf-ode", "onestep-ddpm"]
    path = tiny_preset(networks=networks, purifiers=names, sigmas=[0.25, 0.5])
    plan.make_plan(preset.load_preset(str(path), {}), "cpu")
    assert (counts["edm.safetensors"], counts["ddpm.safetensors"]) == (1, 1)
    counts.clear()
    monkeypatch.setattr(hashing, "_digest", counted(hashing._digest))
    first = identities(zoo)
    assert identities(zoo) == first and load_cnn(zoo / "classifier.safetensors")
    assert counts == {"classifier.safetensors": 1} or not counts  # none if the plan has hashed it
    content = (zoo / "edm-ft.safetensors").read_bytes()
    (zoo / "edm.safetensors").write_bytes(content)
    os.utime(zoo / "edm.safetensors", (0, 0))  # the time stamp of the content before
    assert identities(zoo)[0] != first[0] and identities(zoo)[1] == first[1]


CLASSIFIER_DAMAGE = DAMAGE | {
    "of another width": lambda path: describe(
        path, architecture={"channels": 1, "classes": 10, "widths": [8, 8], "depths": [1, 1]}
    ),
    "of an unknown architecture": lambda path: describe(path, architecture={"hidden": 3}),
}


@pytest.mark.parametrize("damage", CLASSIFIER_DAMAGE)
def test_a_classifier_that_is_damaged_is_refused_by_its_file_with_the_remedy(zoo, damage):
    path = zoo / "classifier.safetensors"
    CLASSIFIER_DAMAGE[damage](path)
    with pytest.raises(ClassifierError) as refusal:
        load_cnn(path)
    assert str(zoo / "classifier.") in str(refusal.value)
    assert any(remedy in str(refusal.value) for remedy in ("restore it", "bench train"))


def test_other_weights_are_another_cell_and_never_mixed_in(run_zoo, zoo, tmp_path):
    assert run_zoo().exit_code == OK
    before = read_run(tmp_path / "out").cells
    for suffix in (".safetensors", ".json"):
        shutil.copy((zoo / "edm-ft").with_suffix(suffix), (zoo / "edm").with_suffix(suffix))
    assert run_zoo().exit_code == OK
    after = read_run(tmp_path / "out")
    (none, edm), (none_again, other_edm) = before, after.cells
    assert none_again == none and other_edm != edm
    assert set(after.blocks["cell"]) == {none, edm, other_edm}
