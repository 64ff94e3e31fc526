"""One run: from a preset to a results folder with counts, exports, example images and a summary."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.display import ProgressDisplay
from bench.engine import Engine
from bench.examples import make_examples
from bench.examples_file import FILE as EXAMPLES
from bench.examples_file import write_examples
from bench.executors import Executor
from bench.executors.local import InProcess, Processes, choose_devices, choose_precision, prepare_device
from bench.plan import Plan, manifest, plan
from bench.preset import Preset
from bench.store import Store, export, read_run
from bench.summary import Summary, summarise
from bench.sweep import refuse_unreadable, sweep


def run(preset: Preset, folder: Path, console: Console) -> tuple[Summary, dict[str, str]]:
    """Run a sweep into a folder, or continue it; returns its summary and why cells failed, by key.

    SIGTERM ends a run as Ctrl-C does.

    Raises:
        KeyboardInterrupt: the run was interrupted; what was counted is stored.
        ValueError, RuntimeError, PlanError, DataError, StoreError: it cannot run, or a worker died; as they say.
    """
    devices = choose_devices(preset.device, preset.workers)
    preset = preset.model_copy(update={"precision": choose_precision(preset.precision, devices[0])})
    planned = plan(preset, devices[0].split(":")[0])
    previous = signal.signal(signal.SIGTERM, interrupt)
    executor = start(planned, devices)
    try:
        with Store(folder) as store:
            with ProgressDisplay(console, planned.cells, len(planned.images)) as progress:
                refuse_unreadable(planned.cells, planned.certifier, planned.images, store)
                record = manifest(planned, devices)
                store.begin(planned.cells, record)
                arguments = planned.cells, planned.certifier, planned.images
                errors = sweep(*arguments, store, executor, preset.batch, progress)
                store.describe({**record, "ended": datetime.now(UTC).isoformat(timespec="seconds")})
            written = read_run(folder)
        export(written)
        if any(progress.samples.values()) or not (folder / EXAMPLES).is_file():
            working = [cell for cell in planned.cells if cell.key not in errors]
            write_examples(folder, make_examples(planned, executor, working))
    finally:
        executor.close()
        signal.signal(signal.SIGTERM, previous)
    summary = summarise([written])
    summary.table.to_csv(folder / "summary.csv", index=False)
    return summary, errors


def start(planned: Plan, devices: list[str]) -> Executor:
    """The executor of a plan: this process for one device, a process for each otherwise."""
    images = {i: planned.split.images[i] for i in planned.images}
    if len(devices) > 1:
        return Processes(images, planned.weights, devices, planned.plugin_files)
    return InProcess(Engine(images, planned.weights, prepare_device(devices[0]), planned.plugin_files))


def interrupt(*_: Any) -> None:
    raise KeyboardInterrupt
