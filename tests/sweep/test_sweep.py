"""The sweep: whatever the batch size, the number of workers and the interruptions, the counts are the same."""

import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from contextlib import suppress

import pytest
from conftest import ROOT
from test_packing import Scripted

from bench.certify.fixed import FixedN
from bench.engine.devices import prepare_device
from bench.engine.engine import Engine
from bench.executors.local import InProcess
from bench.records import Cost, Counts
from bench.store.run import export, read_run
from bench.store.store import Store
from bench.summary.summary import summarise
from bench.sweep import preset
from bench.sweep.plan import make_plan, manifest
from bench.sweep.scheduler import Observer, sweep


def counts_of(folder):
    blocks = read_run(folder).blocks
    rows = zip(blocks["cell"], blocks["image"], blocks["stage"], blocks["first"], blocks["votes"], strict=True)
    return {(c, i, s, f): tuple(v) for c, i, s, f, v in rows}


def run_here(path, folder, images=None, **overrides):
    """A sweep in this process; returns its counts."""
    planned = make_plan(preset.load_preset(str(path), overrides), "cpu")
    clean = {i: planned.split.images[i] for i in planned.images}
    executor = InProcess(Engine(clean, planned.weights, prepare_device("cpu"), planned.plugin_files))
    with Store(folder) as store:
        store.begin(planned.cells, manifest(planned, ["cpu"]))
        outcome = sweep(
            planned.cells,
            planned.certifier,
            {i: planned.labels[i] for i in images or planned.images},
            store,
            executor,
            planned.preset.batch,
            Observer(),
        )
    assert not outcome.errors
    return counts_of(folder)


PURIFIERS = ["none", "onestep-ddpm", "consistency:steps=2", "ddpm:steps=2", "pf-ode-torchdiffeq:solver=bosh3:rtol=0.1"]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_the_counts_are_the_same_for_any_batch_size(tiny_preset, tmp_path, batch):
    path = tiny_preset(purifiers=PURIFIERS, images=3, n=12)
    assert run_here(path, tmp_path / "a", batch=24) == run_here(path, tmp_path / "b", batch=batch)


def test_shards_of_images_add_up_to_the_whole(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none", "ddpm:steps=2"], images=6)
    whole = run_here(path, tmp_path / "whole")
    shards = [run_here(path, tmp_path / str(k), images=images) for k, images in enumerate(thirds(path))]
    assert {key: votes for shard in shards for key, votes in shard.items()} == whole
    assert sum(map(len, shards)) == len(whole)


def thirds(path):
    images = make_plan(preset.load_preset(str(path), {}), "cpu").images
    return [images[k::3] for k in range(3)]


def test_every_purifier_sees_the_same_noise(tiny_preset, tmp_path):
    """Two names for the same method count the same votes: noise does not depend on the cell."""
    path = tiny_preset(purifiers=["onestep-edm", "pf-ode:steps=1"], images=4)
    counts = run_here(path, tmp_path)
    first, second = {key[0] for key in counts}
    for (cell, *rest), votes in counts.items():
        assert counts[(second if cell == first else first, *rest)] == votes


def test_a_run_on_two_workers_counts_what_one_counts(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none", "onestep-edm"], images=4)
    command = [sys.executable, "-m", "bench", "run", str(path), "--no-plots", "--batch", "16"]
    subprocess.run([*command, "--workers", "2", "--out", str(tmp_path / "two")], cwd=ROOT, check=True)
    assert counts_of(tmp_path / "two") == run_here(path, tmp_path / "one")


def test_a_finished_run_on_two_workers_ends_at_once_when_repeated(tiny_preset, tmp_path):
    """Workers that are never needed must not keep the process from ending."""
    path = tiny_preset(purifiers=["none"], images=4)
    before = run_here(path, tmp_path)
    command = [sys.executable, "-m", "bench", "run", str(path), "--no-plots", "--workers", "2", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    assert counts_of(tmp_path) == before


def test_a_run_of_which_only_the_exports_are_there_continues(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none"], images=3)
    run_here(path, tmp_path, n=20)
    export(read_run(tmp_path))
    (tmp_path / "run.sqlite").unlink()
    before = counts_of(tmp_path)
    after = run_here(path, tmp_path, n=40)
    assert before.items() <= after.items() and len(after) > len(before)


def test_a_killed_run_continues_to_the_counts_of_an_undisturbed_one(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none", "onestep-edm", "ddpm:steps=4"], images=10, n=150, rows=50)
    folder = tmp_path / "killed"
    command = [sys.executable, "-m", "bench", "run", str(path), "--no-plots", "--batch", "50", "--out", str(folder)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not blocks_stored(folder) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    before = counts_of(folder)
    undisturbed = run_here(path, tmp_path / "undisturbed")
    assert 0 < len(before) < len(undisturbed)
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    after = counts_of(folder)
    assert after == undisturbed
    assert before.items() <= after.items()


def test_an_interrupted_run_says_how_to_go_on(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none", "ddpm:steps=4"], images=30, n=400)
    folder = tmp_path / "run"
    command = [sys.executable, "-m", "bench", "run", str(path), "--no-plots", "--batch", "50", "--out", str(folder)]
    running = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    while not blocks_stored(folder) and running.poll() is None:
        time.sleep(0.05)
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate(timeout=120)
    assert running.returncode == 130
    assert "the same command continues" in " ".join(output.split())


def blocks_stored(folder):
    if not (folder / "run.sqlite").is_file():
        return 0
    try:
        return len(read_run(folder).blocks)
    except Exception:  # the database is being made at this very moment
        return 0


def test_costs_of_blocks_add_up_to_the_evaluations_made(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["consistency:steps=3"], images=5, n=17)
    run_here(path, tmp_path, batch=13)
    blocks = read_run(tmp_path).blocks
    assert blocks["nfe"].sum() == 3 * blocks["draws"].sum()
    assert (blocks["classifier_rows"] == blocks["draws"]).all()
    assert (blocks["purify_s"] > 0).all() and (blocks["peak_bytes"] > 0).all()
    assert blocks["device"].str.contains("thread").all()


def test_a_sequential_rule_stops_images_early_and_keeps_its_counts_apart(tiny_preset, tmp_path):
    path = tiny_preset(purifiers=["none"], images=4, n0=20, radii=[0.0, 0.25])
    fixed = run_here(path, tmp_path / "fixed", n=200)
    early = run_here(path, tmp_path / "early", certifier="fast", n0=20)
    assert {key[0] for key in early}.isdisjoint({key[0] for key in fixed})
    run = read_run(tmp_path / "early")
    table = summarise([run]).table
    assert table["images"].tolist() == [4]
    assert table["rule"].str.startswith("sequential fast").all()
    assert any("decided grid only" in note for note in summarise([run]).notes)
    drawn = run.blocks[run.blocks["stage"] == "estimate"].groupby("image")["draws"].sum()
    assert (drawn < 100_000).all() and drawn.min() >= 100
    shared = {key[1:]: votes for key, votes in fixed.items() if key[2] == "select"}
    assert shared == {key[1:]: votes for key, votes in early.items() if key[2] == "select"}  # the same noise


def scripted_sweep(planned, folder, **arguments):
    """A sweep whose votes are made up (the same for the same block), in this process."""

    class MadeUp(Scripted):
        def submit(self, task):
            future, cost = Future(), Cost(0, 0, 0, 0, 0, 0, "none")
            hits = [hash((b.image, b.stage, b.first)) % (b.draws + 1) for b in task.blocks]
            future.set_result([Counts(b, (h, b.draws - h), cost) for b, h in zip(task.blocks, hits, strict=True)])
            return future

    with Store(folder) as store:
        store.begin(planned.cells, manifest(planned, ["cpu"]))
        rule = FixedN(0.5, 10, 400, 0.001, block=10)
        return sweep(planned.cells, lambda cell: rule, planned.labels, store, MadeUp(), 30, Observer(), **arguments)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_fifty_kills_lose_no_block_and_count_none_twice(tiny_preset, tmp_path):
    """Each at a random moment of the driver's own work: packing, storing, closing."""
    planned = make_plan(preset.load_preset(str(tiny_preset(purifiers=["none", "onestep-edm"], images=60)), {}), "cpu")
    scripted_sweep(planned, tmp_path / "undisturbed")
    undisturbed = counts_of(tmp_path / "undisturbed")
    assert len(undisturbed) == 2 * 60 * 41
    rng, before, folder, ended = random.Random(1), {}, tmp_path / "killed", 0
    for _ in range(50):
        seconds = rng.uniform(0.001, 0.1)
        child = os.fork()
        if not child:
            with suppress(BaseException):
                # Seconds of its own work, so that a busy machine does not let it finish. Nobody handles the signal.
                signal.setitimer(signal.ITIMER_PROF, seconds)
                scripted_sweep(planned, folder)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended += os.WIFEXITED(status)
        after = counts_of(folder) if blocks_stored(folder) else {}
        assert before.items() <= after.items() <= undisturbed.items()
        before = after
    assert ended < 25 and before
    scripted_sweep(planned, folder)
    assert counts_of(folder) == undisturbed


def test_a_sweep_that_is_asked_to_stop_stores_what_is_under_way(tiny_preset, tmp_path):
    planned = make_plan(preset.load_preset(str(tiny_preset(purifiers=["none"], images=60)), {}), "cpu")
    asked = iter([False] * 10 + [True] * 1000)
    outcome = scripted_sweep(planned, tmp_path, stop=lambda: next(asked))
    stored = read_run(tmp_path).blocks["draws"].sum()
    assert outcome.stopped and outcome.draws == stored > 0
    assert stored == outcome.batches * 30


class Silent(Scripted):
    """Takes tasks and never answers."""

    abandoned = False

    def submit(self, task):
        return Future()

    def abandon(self):
        self.abandoned = True


def test_a_batch_that_never_comes_back_ends_the_run_by_name(tiny_preset, tmp_path):
    planned = make_plan(preset.load_preset(str(tiny_preset(purifiers=["none", "onestep-edm"])), {}), "cpu")
    executor, rule = Silent(), FixedN(0.5, 10, 400, 0.001)
    with Store(tmp_path) as store, pytest.raises(RuntimeError, match=r"within 0\.1 s.*none at sigma = 0\.5.*`timeout`"):
        sweep(planned.cells, lambda _: rule, planned.labels, store, executor, 30, Observer(), timeout=0.1)
    assert executor.abandoned
