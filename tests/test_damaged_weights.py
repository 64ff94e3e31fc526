"""A weight file that is damaged is refused by its name, with the remedy; other weights are another cell."""

from __future__ import annotations

import json
import shutil

import pytest

from bench.store.run import read_run

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


def rewrite_card(path, **fields):
    """Change a card and leave its fingerprint right."""
    card = path.with_suffix(".json")
    card.write_text(json.dumps({**json.loads(card.read_text()), **fields}))


def cut_with_its_card(path):
    """Half a file whose card was made for the half."""
    import hashlib

    truncate(path)
    rewrite_card(path, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


UNET = {"channels": 1, "image_size": 28, "widths": [8, 16], "layers": 1, "unshuffle": 2, "groups": 4}
NETWORK_DAMAGE = {
    "missing": lambda path: path.unlink(),
    "truncated": truncate,
    "empty": lambda path: path.write_bytes(b""),
    "without a card": lambda path: path.with_suffix(".json").unlink(),
    "with the card of another file": lambda path: shutil.copy(path.with_name("ddpm.json"), path.with_suffix(".json")),
    "with half a card": lambda path: truncate(path.with_suffix(".json")),
    "with a card that is a list": lambda path: path.with_suffix(".json").write_text("[]"),
    "with an unknown field": lambda path: rewrite_card(path, colour="blue"),
    "truncated with its card": cut_with_its_card,
    "of another width": lambda path: rewrite_card(path, architecture={**UNET, "widths": [16, 16]}),
    "of a width that groups refuse": lambda path: rewrite_card(path, architecture={**UNET, "widths": [9, 16]}),
    "of a size that does not divide": lambda path: rewrite_card(path, architecture={**UNET, "image_size": 27}),
    "of an unknown architecture": lambda path: rewrite_card(path, architecture={"hidden": 3}),
    "of an unknown kind": lambda path: rewrite_card(path, kind="flow"),
    "of a kind with other levels": lambda path: rewrite_card(path, kind="vp"),
}


@pytest.mark.parametrize("damage", NETWORK_DAMAGE)
def test_a_network_that_is_damaged_is_refused_by_its_file_with_the_remedy(run_zoo, zoo, damage):
    NETWORK_DAMAGE[damage](zoo / "edm.safetensors")
    result = run_zoo()
    assert result.exit_code == REFUSED, result.output
    assert str(zoo / "edm.") in result.stderr
    assert any(remedy in result.stderr for remedy in ("restore it", "train the network again", "bench train"))


CLASSIFIER_DAMAGE = {
    "missing": lambda path: path.unlink(),
    "truncated": truncate,
    "without a card": lambda path: path.with_suffix(".json").unlink(),
    "with the card of another file": lambda path: shutil.copy(path.with_name("edm.json"), path.with_suffix(".json")),
    "with a card that is a list": lambda path: path.with_suffix(".json").write_text("[]"),
    "truncated with its card": cut_with_its_card,
    "of another width": lambda path: rewrite_card(
        path, architecture={"channels": 1, "classes": 10, "widths": [8, 8], "depths": [1, 1]}
    ),
    "of an unknown architecture": lambda path: rewrite_card(path, architecture={"hidden": 3}),
}


@pytest.mark.parametrize("damage", CLASSIFIER_DAMAGE)
def test_a_classifier_that_is_damaged_is_refused_by_its_file_with_the_remedy(run_zoo, zoo, damage):
    CLASSIFIER_DAMAGE[damage](zoo / "classifier.safetensors")
    result = run_zoo()
    assert result.exit_code == REFUSED, result.output
    assert str(zoo / "classifier.") in result.stderr
    assert any(remedy in result.stderr for remedy in ("restore it", "bench train"))


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
