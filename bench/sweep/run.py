"""One run: from a preset to a results folder with counts, exports, example images and a summary."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.engine.devices import choose_devices, energy_since, prepare_device
from bench.engine.engine import Engine
from bench.executors.base import Executor
from bench.executors.local import InProcess, Processes
from bench.records import Cell
from bench.store.database import StoreError
from bench.store.examples import FILE as EXAMPLES
from bench.store.examples import write_examples
from bench.store.run import export, read_run
from bench.store.store import Store
from bench.sweep.examples import make_examples
from bench.sweep.plan import Plan, manifest, plan
from bench.sweep.preset import Preset
from bench.sweep.scheduler import Observer, refuse_unreadable, sweep
from bench.sweep.settle import settle

FACTS = ("started", "purifybench", "git", "python", "libraries", "platform", "devices")  # of each part of a run


def run(
    preset: Preset,
    folder: Path,
    observe: Callable[[Sequence[Cell], int], AbstractContextManager[Observer]],
    notify: Callable[[str], object],
) -> dict[str, str]:
    """Run a sweep into a folder, or continue it; returns why cells failed, by key.

    Ctrl-C and SIGTERM finish the batches that are under way; a second one does not wait for them.

    Parameters:
        observe: makes the observer of a sweep of these cells and so many images.
        notify: is told what goes on.

    Raises:
        KeyboardInterrupt: the run was interrupted; what was counted is stored.
        ValueError, RuntimeError, PlanError, DataError, StoreError: it cannot run, or a worker died; as they say.
    """
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    executor: Executor | None = None
    try:
        planned, devices, executor = prepare(preset, notify)
        with Store(folder) as store:
            refuse_unreadable(planned.cells, planned.certifier, planned.labels, store)
            refuse_another_rule(planned, store)
            with observe(planned.cells, len(planned.images)) as progress:
                record = continued(manifest(planned, devices), store.manifest(), store.size())
                store.begin(planned.cells, record)
                energy = energy_since(devices)
                with asked_to_stop(notify) as stop:
                    outcome = sweep(
                        planned.cells,
                        planned.certifier,
                        planned.labels,
                        store,
                        executor,
                        int(planned.preset.batch),
                        progress,
                        stop,
                        preset.timeout,
                        planned.refuse_votes,
                    )
                if outcome.stopped:
                    raise KeyboardInterrupt
                ended = datetime.now(UTC).isoformat(timespec="seconds")
                ran = record if outcome.draws else without_latest(record)
                told = {"occupancy": outcome.occupancy, **energy()}
                if outcome.start_s:
                    told["start_s"] = {name: round(seconds, 3) for name, seconds in outcome.start_s.items()}
                store.describe({**ran, "ended": ended, **told})
            if outcome.occupancy is not None:
                notify(f"batches were {outcome.occupancy:.1%} full")
            written = read_run(folder)
        with writing_into(folder):
            export(written)
        if outcome.draws or not (folder / EXAMPLES).is_file():
            working = [cell for cell in planned.cells if cell.key not in outcome.errors]
            examples = make_examples(planned, executor, working)
            with writing_into(folder):
                write_examples(folder, examples)
    except BaseException:
        if executor is not None:
            executor.abandon()  # nobody would store what is still under way
        raise
    finally:
        if executor is not None:
            executor.close()
        signal.signal(signal.SIGTERM, previous)
    return outcome.errors


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turns what the system refuses into a StoreError: the counts are in the database by now."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error}). What was counted is stored; make room, and the same command goes on"
        ) from error


def continued(record: dict[str, Any], before: dict[str, Any], blocks: int) -> dict[str, Any]:
    """A manifest that remembers on what the earlier parts of its run ran: counts of several may lie side by side.

    Parameters:
        blocks: that are stored as this part begins. A part that began with as many stored none.
    """
    earlier = before.get("sessions") or ([{k: before.get(k) for k in FACTS}] if before else [])
    counted = [part for part in earlier if part.get("blocks") != blocks]
    return {**record, "sessions": [*counted, {**{k: record[k] for k in FACTS}, "blocks": blocks}]}


def without_latest(record: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run whose latest part counted nothing: what the earlier ones ran on made the counts."""
    *earlier, _ = record["sessions"]
    return {**record, **{k: earlier[-1][k] for k in FACTS}, "sessions": earlier} if earlier else record


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


def prepare(preset: Preset, notify: Callable[[str], object]) -> tuple[Plan, list[str], Executor]:
    """Plan a sweep for the devices that there are; the plan, the devices, and what runs tasks on them."""
    if preset.executor == "local":
        devices = choose_devices(preset.device, preset.workers)
        planned = settle(plan(preset, devices[0].split(":")[0]), devices[0], notify=notify)
        return planned, devices, start(planned, devices, notify)
    from bench.executors.ray_cluster import RayCluster
    from bench.executors.ray_connection import Cluster

    cluster = Cluster(preset.address, preset.device, preset.workers)
    executor = None
    try:
        planned = plan(preset, cluster.devices[0])
        given = planned.weights, planned.plugin_files, planned.cells[0], preset.timeout
        executor = RayCluster(cluster, images_of(planned), *given, notify=notify)
        planned = settle(planned, cluster.devices[0], executor.measure)
        executor.start()
        return planned, cluster.devices, executor
    except BaseException:
        (executor or cluster).close()
        raise


def images_of(planned: Plan) -> dict[int, np.ndarray]:
    return {i: planned.split.images[i] for i in planned.images}


def start(planned: Plan, devices: list[str], notify: Callable[[str], object] = lambda message: None) -> Executor:
    """The executor of a plan on this machine: this process for one device, a process for each otherwise."""
    images = images_of(planned)
    if len(devices) > 1:
        return Processes(images, planned.weights, devices, planned.plugin_files, notify)
    engine = Engine(images, planned.weights, prepare_device(devices[0]), planned.plugin_files)
    return InProcess(engine, planned.preset.timeout)


@contextmanager
def asked_to_stop(notify: Callable[[str], object]) -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came; the second one interrupts at once."""
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        notify("stopping: the batches that are under way are finished and stored; once more to stop at once")

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
