"""A Ray cluster of this machine counts what one process counts, whatever dies: workers, and the driver itself."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from bench.engine.devices import prepare_device
from bench.engine.engine import Engine
from bench.executors.local import InProcess
from bench.executors.ray_cluster import RayCluster
from bench.executors.ray_connection import Cluster
from bench.store.run import read_run
from bench.store.store import Store
from bench.sweep import preset
from bench.sweep.plan import make_plan, manifest
from bench.sweep.scheduler import Observer, sweep

PURIFIERS = ["none", "ddpm:steps=2", "consistency:steps=2"]
MARKED = """
import os
from dataclasses import dataclass
from purifiers.base import Purifier

@dataclass(frozen=True)
class Marked(Purifier):
    name = "marked"

    def purify(self, x, sigma, networks, rng):
        open({folder!r} + "/" + str(os.getpid()), "w").close()
        return x.clamp(0, 1) + 0.01 * rng.normal(x)
"""


class Killer(Observer):
    """Kills one of the processes that left their number in a folder, in the midst of the sweep."""

    def __init__(self, folder: Path):
        self.folder, self.batches, self.killed = folder, 0, 0

    def counted(self, cell, counts, decided):
        self.batches += 1
        numbers = [int(file.name) for file in self.folder.iterdir()]
        if self.batches > 5 and numbers and not self.killed:
            self.killed = numbers[0]
            os.kill(self.killed, signal.SIGKILL)


class Far(RayCluster):
    """A cluster whose machines do not see the folder `far`: it is gone before the first worker starts."""

    def _add_workers(self, total):
        folder = Path(self._setup[5].classifiers[0][2].root)
        if folder.exists():
            shutil.move(folder, folder.with_name("elsewhere"))
            environment = {"TMPDIR": str(folder.with_name("unpacked"))}
            self._actor = self._actor.options(runtime_env={"env_vars": environment})
        super()._add_workers(total)


def test_three_workers_count_what_one_process_counts_in_any_batches_and_order_though_one_is_killed(
    address, tiny_zoo, tiny_preset, tmp_path
):
    """Their machines see none of the driver's files, so that all must travel."""
    processes = tmp_path / "processes"
    processes.mkdir()
    far = shutil.copytree(tiny_zoo, tmp_path / "far")
    plugin = far / "marked.py"
    plugin.write_text(MARKED.format(folder=str(processes)))
    networks = {role: str(far / f"{role}.safetensors") for role in ("ddpm", "cm")}
    classifier = {"name": "cnn", "path": str(far / "classifier.safetensors")}
    fields = {"networks": networks, "classifier": classifier, "images": 5, "n": 40}
    planned = make_plan(preset.load_preset(str(tiny_preset(purifiers=[str(plugin), *PURIFIERS], **fields)), {}), "cpu")
    images = {i: planned.split.images[i] for i in planned.images}

    def counts(executor, folder, batch, order=1, observer=None):
        labels = {i: planned.labels[i] for i in planned.images[::order]}
        arguments = planned.cells[::order], planned.certifier, labels
        with Store(tmp_path / folder) as store:
            store.begin(planned.cells, manifest(planned, ["cpu"]))
            outcome = sweep(*arguments, store, executor, batch, observer or Observer(), timeout=300)
        assert not outcome.errors
        return counts_of(tmp_path / folder)

    expected = counts(
        InProcess(Engine(images, planned.weights, prepare_device("cpu"), planned.plugin_files)), "one", 24
    )
    (processes / str(os.getpid())).unlink()
    said: list[str] = []
    given = planned.weights, planned.plugin_files, planned.cells
    (tmp_path / "unpacked").mkdir()
    executor = Far(Cluster(workers=3), images, *given, patience=300, notify=said.append)
    try:
        executor.start()
        assert not far.exists()
        deadline = time.monotonic() + 300
        while executor.workers < 3 and time.monotonic() < deadline:
            time.sleep(0.1)
        assert executor.workers == 3
        killer = Killer(processes)
        assert counts(executor, "killed", 10, observer=killer) == expected
        assert killer.killed and len(said) == 1 and said[0].startswith("a worker died")
        assert counts(executor, "large", 1000, order=-1) == expected
        assert counts(executor, "odd", 7) == expected
        noisy, purified, _ = executor.show(planned.cells[-1], planned.images[:2]).result(timeout=120)
        assert noisy.shape == purified.shape == (2, 1, 28, 28)
        names = [file.name for file in (tmp_path / "unpacked").rglob("*.*")]
        assert names.count("marked.py") == names.count("cm.safetensors") == 1  # once for all workers of a machine
    finally:
        executor.close()


def counts_of(folder):
    blocks = read_run(folder).blocks
    rows = zip(blocks["cell"], blocks["image"], blocks["stage"], blocks["first"], blocks["votes"], strict=True)
    return {(c, i, s, f): tuple(v) for c, i, s, f, v in rows}


def stored(folder: Path) -> int:
    try:
        return len(read_run(folder).blocks) if (folder / "run.sqlite").is_file() else 0
    except Exception:  # the database is being made at this very moment
        return 0


@pytest.mark.slow
def test_a_driver_that_is_killed_leaves_no_worker_behind_and_the_run_goes_on_anywhere(address, tiny_preset, tmp_path):
    import ray

    path, folder = tiny_preset(purifiers=["none", "ddpm:steps=8"], images=30, n=400, rows=50), tmp_path / "run"
    command = [sys.executable, "-m", "bench", "run", str(path), "--no-plots", "--batch", "50", "--out", str(folder)]
    on_ray = [*command, "--executor", "ray", "--address", address, "--workers", "2"]
    running = subprocess.Popen(on_ray, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 300
    while not stored(folder) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    running.kill()
    said, _ = running.communicate()
    assert running.returncode == -signal.SIGKILL, said
    before = counts_of(folder)
    assert before, said

    planned = make_plan(preset.load_preset(str(path), {}), "cpu")
    images = {i: planned.split.images[i] for i in planned.images}
    executor = InProcess(Engine(images, planned.weights, prepare_device("cpu")))
    for place in (folder, tmp_path / "undisturbed"):
        with Store(place) as store:
            record = store.manifest() or manifest(planned, ["cpu"])
            store.begin(planned.cells, record)
            sweep(planned.cells, planned.certifier, planned.labels, store, executor, 500, Observer())
    assert before.items() < counts_of(folder).items()
    assert counts_of(folder) == counts_of(tmp_path / "undisturbed")
    assert address not in (folder / "run.sqlite").read_bytes().decode(errors="ignore")
    while ray.available_resources().get("CPU") != 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert ray.available_resources()["CPU"] == 4


def test_connecting_leaves_the_handlers_of_signals_as_they_were(address):
    assert signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, signal.default_int_handler)
