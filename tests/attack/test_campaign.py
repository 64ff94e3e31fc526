"""`bench attack` attacks the certificates of a stored run, keeps what it has, and shows it in report and pictures."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

import purifybench as pb
from bench.attack import choose
from bench.attack import search as searching
from bench.attack.base import ATTACK, AttackError
from bench.engine import Loader
from bench.plugins.registry import discover
from bench.store.attacks import AttackedImage, read_attacks, write_attacks
from bench.store.checksums import list_files
from bench.store.run import read_run
from bench.sweep import planned, preset_of

FAST = ("--images", 4, "--steps", 2, "--rounds", 2, "--draws", 50, "--restarts", 1)
BATCH_MEAN = """
from dataclasses import dataclass
from purifiers.base import Purifier

@dataclass(frozen=True)
class BatchMean(Purifier):
    name = "batch-mean"
    bounded = False

    def purify(self, x, sigma, networks, rng):
        return {body}
"""


@pytest.fixture
def run_folder(tiny_preset, tmp_path, cli):
    folder = tmp_path / "run"
    path = tiny_preset(images=4, n=20, alpha=0.4, sigmas=[0.5], batch=24)
    assert cli("run", path, "--out", folder, "--no-plots").exit_code == 0
    return folder


def test_the_results_are_stored_shown_and_continued(run_folder, cli, monkeypatch):
    loads, read = [], Loader._read_classifier
    monkeypatch.setattr(Loader, "_read_classifier", lambda self, cell: loads.append(cell) or read(self, cell))
    done = cli("attack", run_folder, *FAST)
    assert done.exit_code in (0, 1) and "expected" in done.stdout, done.stdout
    found = read_attacks(run_folder)
    assert [cell.label for cell in found.cells] == ["none", "onestep-edm"] and not found.missing
    assert len(loads) == 2  # once to count, once for gradients, whatever the number of cells
    certified = pb.load(run_folder).certificates
    tried = certified[(certified["predicted"] >= 0) & (certified["radius"] > 0)]
    assert sum(len(cell.images) for cell in found.cells) == len(tried) > 0
    by_key = tried.set_index(["cell", "image"])["radius"]
    for cell in found.cells:
        assert all(image.distance <= image.radius == by_key[cell.cell, image.image] for image in cell.images)
    page = pb.report(pb.load(run_folder), run_folder / "page.html").read_text()
    assert 'id="attack"' in page and "broken" in page.lower() and "not attacked" not in page
    assert any(path.stem == "attack" for path in pb.plot(pb.load(run_folder), run_folder, formats=["svg"]))
    monkeypatch.setattr(searching, "attack_images", None)  # nothing is attacked a second time
    monkeypatch.setattr("bench.attack.campaign.attack_images", None)
    again = pb.attack(pb.load(run_folder), images=4, method="pgd:steps=2", rounds=2, draws=50, restarts=1)
    assert again.cells == found.cells


def test_a_run_without_attacks_says_so(run_folder):
    assert "bench attack" in pb.report(pb.load(run_folder), run_folder / "page.html").read_text()


def test_two_workers_find_what_one_does(run_folder, cli):
    options = {"images": 4, "method": "pgd:steps=2", "rounds": 1, "draws": 50, "restarts": 1, "only": ["none"]}
    one = pb.attack(pb.load(run_folder), workers=1, **options)
    (run_folder / "attack.json").unlink()
    two = pb.attack(pb.load(run_folder), workers=2, **options)
    assert [replace(cell, seconds=0) for cell in one.cells] == [replace(cell, seconds=0) for cell in two.cells]


def test_a_purifier_that_averages_its_batch_is_broken_and_the_code_must_be_named(
    tiny_preset, tmp_path, cli, monkeypatch
):
    """All its rows are one mean image: it removes the noise of a batch that holds one image only."""
    file = tmp_path / "batch_mean.py"
    file.write_text(BATCH_MEAN.format(body="x.mean(0, keepdim=True).expand_as(x)"))
    folder, path = tmp_path / "run", tiny_preset(purifiers=["none"], images=6, n0=20, n=100, block=100, sigmas=[1.0])
    options = ("--purifiers", f"none,{file}", "--batch", 100, "--audit", 0)
    monkeypatch.setattr("bench.sweep.session.check_plugins", lambda *arguments: None)  # refuses such a purifier
    assert cli("run", path, *options, "--out", folder, "--no-plots").exit_code == 0
    refused = cli("attack", folder, *FAST)
    assert refused.exit_code == 2 and "name the file yourself" in refused.stderr
    cli("attack", folder, "--images", 6, "--steps", 10, "--rounds", 0, "--draws", 100, "--purifiers", file)
    found = {cell.label: cell for cell in read_attacks(folder).cells}
    assert found["batch-mean"].broken > 0
    assert found["none"].broken == 0


def test_a_purifier_is_named_as_tables_show_it(run_folder):
    pairs = planned(read_run(run_folder), preset_of(read_run(run_folder), {}), "cpu")[1]
    displayed = {pair.stored.label: f"shown {k}" for k, pair in enumerate(pairs)}
    first, last = pairs[0].stored, pairs[-1].stored
    assert {pair.stored.label for pair in choose(pairs, ["shown 0", f" {last.label}"], None, displayed)} == {
        first.label,
        last.label,
    }
    of_plugin = choose(pairs, [first.purifier], [first.sigma], displayed)
    assert of_plugin == [pair for pair in pairs if pair.stored.purifier == first.purifier]
    with pytest.raises(AttackError, match="no purifier 'shown'; it has shown 0, shown 1"):
        choose(pairs, ["shown"], None, displayed)


def test_unknown_names_and_values_are_refused(run_folder, cli):
    for options, words in (
        (("--only", "onestep"), "no purifier 'onestep'"),
        (("--sigma", "2"), "no sigma = 2"),
        (("--method", "pdg"), "pgd"),
        (("--method", "pgd:step=3"), "steps"),
        (("--level", "0"), "level between 0 and 1"),
    ):
        refused = cli("attack", run_folder, *options)
        assert refused.exit_code == 2 and words in refused.stderr, refused.stderr


def test_a_run_in_memory_and_a_damaged_file_are_refused(run_folder):
    run = pb.load(run_folder)
    with pytest.raises(pb.PurifyBenchError, match="in memory"):
        pb.attack(pb.Run(run.stored, None))
    (run_folder / "attack.json").write_text("{")
    list_files(run_folder)
    with pytest.raises(ValueError, match="bench attack"):
        read_attacks(run_folder)


def test_attacks_are_plugins():
    assert set(discover(ATTACK)) == {"pgd"}


def test_the_two_curves_of_a_cell_bound_the_accuracy(run_folder, cli):
    cli("attack", run_folder, *FAST)
    found = read_attacks(run_folder)
    images = (
        AttackedImage(0, 1, 1, 0.3, 0.3, 0.9, 0, 0, False, 0.8),
        AttackedImage(1, 1, 1, 0.4, 0.4, 0.1, 2, 50, True, 0.2),
        AttackedImage(2, 1, 3, 0.5, 0.5, 0.9, 0, 0, False, None),
    )
    cell = replace(found.cells[0], images=images, chosen=5, zero=1)
    assert cell.certified_at([0, 0.3, 0.35, 0.45]) == pytest.approx([0.6, 0.4, 0.2, 0])
    assert cell.attacked_at([0, 0.2, 0.5, 0.8]) == pytest.approx([0.6, 0.4, 0.4, 0.2])
    write_attacks(run_folder, replace(found, cells=(cell,)))
    assert read_attacks(run_folder).cells == (cell,)
    assert json.loads((run_folder / "attack.json").read_text())["format"] == 1


def write_attack(folder, shift):
    """An attack of a user, which moves all images by a part of the radius."""
    path = folder / "shift.py"
    path.write_text(
        "from dataclasses import dataclass\n\nfrom bench.attack import Attack\n\n\n@dataclass(frozen=True)\n"
        'class Shift(Attack):\n    name = "shift"\n\n    part: float = 0.5\n\n'
        "    def perturb(self, target, start, radii, attempt):\n"
        f"        return start + {shift} * self.part * radii.to(start.dtype).view(-1, 1, 1, 1) / 28\n"
    )
    return path


def test_an_attack_in_a_file_runs_in_every_worker_and_its_code_is_announced(run_folder, cli, tmp_path):
    path = write_attack(tmp_path, 1)
    fast = ("--images", 4, "--rounds", 0, "--draws", 50, "--restarts", 1)
    done = cli("attack", run_folder, "--attack", f"{path}:part=0.25", "--workers", 2, *fast)
    assert done.exit_code in (0, 1), done.output
    assert f"runs code of {path}" in done.stderr
    found = read_attacks(run_folder)
    assert found.attack == "shift(part=0.25)" and not found.missing
    tried = [image for cell in found.cells for image in cell.images]
    assert tried and all(image.distance == pytest.approx(image.radius / 4, rel=1e-3) for image in tried)


def test_results_of_an_attack_whose_code_changed_are_made_again(run_folder, tmp_path):
    options = {"images": 4, "rounds": 0, "draws": 50, "restarts": 1, "workers": 1}
    run = pb.load(run_folder)
    first = pb.attack(run, method=str(write_attack(tmp_path, 1)), **options)
    again = pb.attack(run, method=str(write_attack(tmp_path, 1)), **options)
    changed = pb.attack(run, method=str(write_attack(tmp_path, 0.5)), **options)
    assert again.cells == first.cells  # seconds and all: nothing was attacked again
    before, after = ([image.distance for cell in found.cells for image in cell.images] for found in (first, changed))
    assert after == pytest.approx([distance / 2 for distance in before], rel=1e-3)
