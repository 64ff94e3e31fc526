"""One run: from a preset to a results folder with counts, exports, example images and a summary."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from bench.types import Cell


def run(preset: Preset, folder: Path, console: Console) -> tuple[Summary, dict[str, str]]:
    """Run a sweep into a folder, or continue it; returns its summary and why cells failed, by key.

    Ctrl-C and SIGTERM finish the batches that are under way; a second one does not wait for them.

    Raises:
        KeyboardInterrupt: the run was interrupted; what was counted is stored.
        ValueError, RuntimeError, PlanError, DataError, StoreError: it cannot run, or a worker died; as they say.
    """
    devices = choose_devices(preset.device, preset.workers)
    preset = preset.model_copy(update={"precision": choose_precision(preset.precision, devices[0])})
    planned = plan(preset, devices[0].split(":")[0])
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    executor = start(planned, devices)
    try:
        with Store(folder) as store:
            refuse_unreadable(planned.cells, planned.certifier, planned.labels, store)
            refuse_another_rule(planned, store)
            with ProgressDisplay(console, planned.cells, len(planned.images)) as progress:
                record = continued(manifest(planned, devices), store.manifest())
                store.begin(planned.cells, record)
                arguments = planned.cells, planned.certifier, planned.labels
                with asked_to_stop(console) as stop:
                    outcome = sweep(*arguments, store, executor, preset.batch, progress, stop, preset.timeout)
                if outcome.stopped:
                    raise KeyboardInterrupt
                ended = datetime.now(UTC).isoformat(timespec="seconds")
                store.describe({**record, "ended": ended, "occupancy": outcome.occupancy})
            if outcome.occupancy is not None:
                console.print(f"batches were {outcome.occupancy:.1%} full", highlight=False)
            written = read_run(folder)
        export(written)
        if any(progress.samples.values()) or not (folder / EXAMPLES).is_file():
            working = [cell for cell in planned.cells if cell.key not in outcome.errors]
            write_examples(folder, make_examples(planned, executor, working))
    finally:
        executor.close()
        signal.signal(signal.SIGTERM, previous)
    summary = summarise([written])
    summary.table.to_csv(folder / "summary.csv", index=False)
    return summary, outcome.errors


def continued(record: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """A manifest that remembers on what the earlier parts of its run ran: counts of several may lie side by side."""
    facts = ("started", "purifybench", "git", "python", "libraries", "platform", "devices")
    earlier = before.get("sessions") or ([{k: before.get(k) for k in facts}] if before else [])
    return {**record, "sessions": [*earlier, {k: record[k] for k in facts}]}


def refuse_another_rule(planned: Plan, store: Store) -> None:
    """Raise ValueError where the folder holds counts of the same cell that another stopping rule asked for.

    To change the rule, its radii or its constants after looking at what it stopped at is to test twice.
    """
    stored = [cell for cell in store.cells() if "rule" in cell.hashes or "rule" in planned.cells[0].hashes]
    for cell in planned.cells:
        if any(other.key != cell.key and without_rule(other).key == without_rule(cell).key for other in stored):
            raise ValueError(
                f"{store.folder} holds counts of {cell.label} at sigma = {cell.sigma:g} that another stopping rule "
                f"asked for; now it is to be {planned.certifier(cell).rule}. A rule, its radii and its constants are "
                f"fixed before the first draw: go on as before, or give another --out (and, where you choose the new "
                f"rule because of what the old one gave, another --seed). `--certifier anytime` may be extended freely"
            )


def without_rule(cell: Cell) -> Cell:
    return replace(cell, hashes={name: value for name, value in cell.hashes.items() if name != "rule"})


def start(planned: Plan, devices: list[str]) -> Executor:
    """The executor of a plan: this process for one device, a process for each otherwise."""
    images = {i: planned.split.images[i] for i in planned.images}
    if len(devices) > 1:
        return Processes(images, planned.weights, devices, planned.plugin_files)
    engine = Engine(images, planned.weights, prepare_device(devices[0]), planned.plugin_files)
    return InProcess(engine, planned.preset.timeout)


@contextmanager
def asked_to_stop(console: Console) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; the second one interrupts at once."""
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        console.print("stopping: the batches that are under way are finished and stored; once more to stop at once")

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
