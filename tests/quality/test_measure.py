"""`bench metrics` measures the very draws of a run, keeps what it measured, and refuses what it cannot do."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.data import load as load_images
from bench.engine.engine import _SELECTION, Engine
from bench.engine.noise import PURIFIER, SMOOTHING, RowRng
from bench.errors import RunError
from bench.executors.local import InProcess
from bench.quality import measurement as measuring
from bench.quality.distances import l2
from bench.quality.replay import MetricsError, chosen_images, recount
from bench.store.checksums import list_files
from bench.store.quality import Metrics, read_metrics
from bench.store.run import Run, export, read_run
from bench.summary.statistics import mean_interval
from bench.sweep.plan import make_plan
from bench.sweep.preset import load_preset as load_preset
from bench.sweep.replay import Pair, ReplayError, planned, preset_of
from purifiers.onestep_edm import OneStepEDM


@pytest.fixture
def run_folder(tiny_preset, tmp_path, cli):
    """A finished run of two purifiers on six digits."""
    folder = tmp_path / "run"
    done = cli("run", tiny_preset(images=6), "--out", folder, "--no-plots")
    assert done.exit_code == 0
    return folder


def metrics(cli, folder: Path, *options: object):
    return cli("metrics", folder, "--perceptual", "features", "--only", "perceptual,l2,transport,frechet", *options)


def test_the_distances_are_those_of_the_draws_that_were_certified(run_folder, tiny_zoo, cli):
    """Made here by hand: the noise of draws 0 and 1 of each image, a purifier, the distance."""
    done = metrics(cli, run_folder, "--draws", 2)
    assert done.exit_code == 0 and "bench report" in done.stdout
    found = {cell.label: cell for cell in read_metrics(run_folder).cells}
    clean = torch.from_numpy(np.ascontiguousarray(load_images("mnist5k", "test").images[:6]))
    from purifiers.nets import load

    denoiser, images, distances = load(tiny_zoo / "edm.safetensors"), torch.arange(6), []
    preset = read_run(run_folder).manifest["preset"]
    for draw in range(2):
        draws = torch.full((6,), draw)
        x = clean + 0.5 * RowRng(0, SMOOTHING, images, draws).normal(clean)
        assert draw < _SELECTION
        purified = OneStepEDM().purify(x, 0.5, {"edm": denoiser}, RowRng(0, PURIFIER, images, draws))
        distances.append((l2(x.numpy(), clean.numpy()), l2(purified.numpy(), clean.numpy())))
    noisy, near = np.mean(distances, axis=0)
    tolerance = 1e-4 if preset["precision"] == "fp32" else 3e-2
    for label, expected, rel in (("none", noisy, 1e-4), ("onestep-edm", near, tolerance)):
        value = found[label].values["l2"]
        assert value.value == pytest.approx(expected.mean(), rel=rel)
        assert (value.low, value.high) == pytest.approx(mean_interval(expected), rel=rel)
        assert found[label].values["transport"].value <= value.value * (1 + 1e-6)
        assert found[label].values["frechet"].low is None


def test_what_is_measured_is_not_measured_again(run_folder, cli, monkeypatch):
    assert cli("metrics", run_folder, "--only", "l2").exit_code == 0
    first = read_metrics(run_folder)
    assert {name for cell in first.cells for name in cell.values} == {"l2"}
    calls = []
    show = Engine.show
    monkeypatch.setattr(Engine, "show", lambda self, *a: calls.append(a) or show(self, *a))
    assert cli("metrics", run_folder, "--only", "l2").exit_code == 0
    assert calls == [] and read_metrics(run_folder).cells == first.cells
    assert cli("metrics", run_folder, "--only", "transport").exit_code == 0
    both = read_metrics(run_folder)
    assert len(calls) == 2 and all(set(cell.values) == {"l2", "transport"} for cell in both.cells)
    assert [c.values["l2"] for c in both.cells] == [c.values["l2"] for c in first.cells]
    assert cli("metrics", run_folder, "--only", "l2", "--images", 3).exit_code == 0  # other draws: nothing is kept
    assert read_metrics(run_folder).images == 3
    assert all(set(cell.values) == {"l2"} for cell in read_metrics(run_folder).cells)


def test_metrics_that_cannot_be_measured_are_missing_and_the_others_are_there(run_folder, cli, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no network")

    import torchvision.models  # noqa: F401  # takes the function that is patched when it is first imported

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)
    done = cli("metrics", run_folder, "--only", "l2,fid,perceptual", "--perceptual", "lpips-vgg")
    assert done.exit_code == 0 and "not measured: fid" in done.stdout and "not measured: perceptual" in done.stdout
    text = (run_folder / "metrics.json").read_text()
    assert set(json.loads(text)["missing"]) == {"fid", "perceptual"} and "NaN" not in text
    assert str(Path.home()) not in text and str(run_folder) not in text
    assert cli("report", run_folder).exit_code == 0
    assert "could not fetch vgg16-397923af.pth" in (run_folder / "report.html").read_text()


def test_a_run_without_counts_and_unknown_metrics_are_refused(run_folder, tmp_path, cli):
    refused = cli("metrics", tmp_path / "nothing")
    assert refused.exit_code == 2 and "there is no run in" in refused.stderr
    refused = cli("metrics", run_folder, "--only", "lpip")
    assert refused.exit_code == 2 and "unknown metric 'lpip'" in refused.stderr and "perceptual" in refused.stderr
    (run_folder / "metrics.json").write_text("{")
    list_files(run_folder)
    refused = cli("metrics", run_folder)
    assert refused.exit_code == 2 and "Delete it" in refused.stderr


def test_other_images_than_the_runs_are_refused(run_folder):
    run = read_run(run_folder)
    pixels = dict.fromkeys(run.manifest["pixels"], "other")
    changed = replace(run, manifest={**run.manifest, "pixels": pixels})
    with pytest.raises(ReplayError, match=r"is not the image that .*--data"):
        planned(changed, preset_of(changed), "cpu")
    named = replace(run, cells={key: replace(cell, parameters={"steps": 9}) for key, cell in run.cells.items()})
    with pytest.raises(ReplayError, match="the parameters of"):
        planned(named, preset_of(named), "cpu")
    with pytest.raises(ReplayError, match="holds no counts of its own"):
        preset_of(replace(run, cells={}))


def test_code_that_changed_is_recounted_and_other_noise_is_refused(run_folder):
    """The stored counts are the reference: the same draws give them again, those of another seed do not."""
    from bench.sweep.run import start

    run = read_run(run_folder)
    made, pairs = planned(run, preset_of(run), "cpu")
    executor = start(made, ["cpu"])
    assert recount(run, pairs[0], executor) == (0, 0)  # the same key: nothing to prove
    newer = [
        Pair(pair.stored, replace(pair.current, hashes={**pair.current.hashes, "engine": "another"})) for pair in pairs
    ]
    for pair in newer:
        draws, moved = recount(run, pair, executor)
        assert draws == 4 * 10 and moved == 0
    other = Pair(pairs[1].stored, replace(pairs[1].current, seed=1))
    with pytest.raises(MetricsError, match=r"of 40 draws that were counted again, \d+ gave\s+another class"):
        recount(run, other, executor)


def test_images_are_balanced_as_a_sweep_chooses_them(tiny_preset):
    made = make_plan(load_preset(str(tiny_preset(images=40)), {}), "cpu")
    assert chosen_images(made, 10) == list(range(10)) and chosen_images(made, 99) == list(range(40))


def test_networks_that_were_trained_on_a_distance_say_so():
    """By the cards of the bundled networks: fine-tuned on the features of the second classifier."""
    found = {role: measuring._training_distance(f"mnist5k/{role}") for role in ("edm", "edm-ft", "cm-ft")}
    judge = "LPIPS' arithmetic on the features of mnist5k/features, a second classifier that is never evaluated"
    assert found["edm-ft"] == found["cm-ft"] == judge != found["edm"]


def test_a_failing_cell_is_left_out_and_named(run_folder, cli, monkeypatch):
    def fault(self, x, sigma, networks, rng):
        raise ValueError("no such luck")

    monkeypatch.setattr(OneStepEDM, "purify", fault)
    done = cli("metrics", run_folder, "--only", "l2")
    assert "not measured: purifier 'onestep-edm'" in done.stdout and "no such luck" in done.stdout
    assert [cell.label for cell in read_metrics(run_folder).cells] == ["none"]


def test_workers_that_die_again_and_again_end_it_with_a_message(run_folder, cli, monkeypatch):
    def dead(self, *_):
        raise RunError("worker processes died repeatedly")

    monkeypatch.setattr(InProcess, "show", dead)
    done = cli("metrics", run_folder, "--only", "l2")
    assert done.exit_code == 2 and "died repeatedly" in done.stderr


def test_exports_alone_are_enough(run_folder, tmp_path, cli):
    run = read_run(run_folder)
    folder = tmp_path / "exported"
    folder.mkdir()
    export(Run(folder, run.manifest, run.cells, run.errors, run.blocks, run.published))
    assert cli("metrics", folder, "--only", "l2").exit_code == 0
    assert isinstance(read_metrics(folder), Metrics)
