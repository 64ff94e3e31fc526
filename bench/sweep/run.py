"""One run: from a preset to a results folder with counts, exports and example images."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.data import decoder_versions
from bench.engine import Engine
from bench.engine.devices import choose_devices, energy_since, prepare_device
from bench.errors import InputError, TimeOver
from bench.executors import Executor, InProcess, Pipelined, Processes, waiting_since
from bench.records import Cell
from bench.store import EXAMPLES_FILE, MANIFEST, Store, export, read_run, write_examples
from bench.store.database import DATABASE, StoreError
from bench.store.run import read_manifest
from bench.sweep.costs import COSTS
from bench.sweep.examples import make_examples
from bench.sweep.plan import Plan, make_plan, manifest, without_rule
from bench.sweep.preset import Preset
from bench.sweep.scheduler import Observer, Outcome, refuse_unreadable, sweep
from bench.sweep.session import Session, count_all, with_sessions, without_latest
from bench.sweep.settle import advice, device_of, settle_options, with_device_defaults
from bench.sweep.stop import stop_requests
from bench.sweep.trust import TRUST, evidence

_Notify = Callable[[str], object]
_Observing = Callable[[Sequence[Cell], int], AbstractContextManager[Observer]]
_Driver = Callable[[Session], Outcome]


def run_sweep(
    preset: Preset,
    folder: Path,
    observe: _Observing,
    notify: _Notify,
    minutes: float | None = None,
    drive: _Driver = count_all,
) -> dict[str, str]:
    """Run a sweep into a folder, or continue it; returns the errors of failed cells, by key.

    Ctrl-C and SIGTERM finish the running batches; a second one does not wait for them. A time limit finishes them, too,
    and then exports what is counted.

    Parameters:
        observe: makes the observer of a sweep of these cells and so many images.
        notify: called with messages.
        minutes: time limit, with loading and tuning; None: none.
        drive: decides what is counted. A run that it leaves incomplete has not ended.

    Raises:
        KeyboardInterrupt: the run was interrupted; all counts are stored.
        TimeOver: the time limit ended the run; all counts are stored and exported.
        PurifyBenchError, ValueError, RuntimeError: the sweep cannot run, or workers died; the message says which.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        planned, devices, executor = _prepare(preset, read_manifest(folder), notify)
        with executor:
            return _count(planned, devices, executor, folder, observe, notify, deadline, drive)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _count(
    planned: Plan,
    devices: list[str],
    executor: Executor,
    folder: Path,
    observe: _Observing,
    notify: _Notify,
    deadline: float | None,
    drive: _Driver,
) -> dict[str, str]:
    """Count and export a planned sweep, and make its example images; returns and raises as `run_sweep`."""
    _refuse_hidden_cells(planned, folder)
    with Store(folder) as store:
        unfinished = refuse_unreadable(planned.cells, planned.certifier, planned.labels, store)
        _refuse_another_rule(planned, store)
        _refuse_changed_images(planned, store)
        with observe(planned.cells, len(planned.images)) as observer:
            before = store.manifest()
            record = with_sessions(manifest(planned, devices), before, store.size())
            trust = evidence(planned, before, unfinished, lambda: store.describe(record))
            record[TRUST] = trust.record
            store.begin(planned.cells, record)
            energy, waiting = energy_since(devices), waiting_since()
            with stop_requests(notify, "running batches are finished and stored", deadline) as stop:
                count = partial(
                    sweep,
                    store=store,
                    executor=executor,
                    batch=int(planned.preset.batch),
                    observer=observer,
                    stop=stop,
                    timeout=planned.preset.timeout,
                    check=planned.refuse_votes,
                    trust=trust,
                )
                facts = planned, store, executor, record, before, unfinished, trust, stop
                session = Session(*facts, count, notify)
                outcome = drive(session)
                record[COSTS] = session.costs()
                if planned.preset.executor == "local":  # nobody asks the machines of a cluster
                    record["sessions"][-1]["waited"] = waiting()
                trust.keep()
            if outcome.stopped and not stop.timely:
                raise KeyboardInterrupt
            if outcome.stopped:
                with writing_into(folder):
                    export(read_run(folder))
                raise TimeOver(f"the time is over: the counts are stored in {folder}; the same command continues")
            record = record if outcome.draws else without_latest(record)
            spent = {"occupancy": outcome.occupancy, **energy()}
            if drive is count_all:
                spent["ended"] = datetime.now(UTC).isoformat(timespec="seconds")
            elif not outcome.draws and "ended" in before:
                spent["ended"] = before["ended"]
            if outcome.start_s:
                spent["start_s"] = {name: round(seconds, 3) for name, seconds in outcome.start_s.items()}
            store.describe({**record, **spent})
        if outcome.occupancy is not None:
            notify(f"batches were {outcome.occupancy:.1%} full")
        written = read_run(folder)
    with writing_into(folder):
        export(written)
    if outcome.draws or not (folder / EXAMPLES_FILE).is_file():
        working = [cell for cell in planned.cells if cell.key not in outcome.errors]
        examples = make_examples(planned, executor, working)
        with writing_into(folder):
            write_examples(folder, examples)
    return outcome.errors


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Turn an OSError inside the context into a StoreError that names the remedy."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be written ({error}). All counts are stored: make room and run the same command again"
        ) from error


def _refuse_another_rule(planned: Plan, store: Store) -> None:
    """Raise ValueError if the folder holds counts of a planned cell under another stopping rule.

    A rule that is changed after a look at its results tests the same hypothesis twice.
    """
    stored = [cell for cell in store.cells() if "rule" in cell.hashes or "rule" in planned.cells[0].hashes]
    for cell in planned.cells:
        if any(other.key != cell.key and without_rule(other).key == without_rule(cell).key for other in stored):
            raise InputError(
                f"{store.folder} holds counts of {cell.label} at sigma = {cell.sigma:g} under another stopping rule "
                f"than {planned.certifier(cell).rule}. A rule, its radii and its constants are fixed before the first "
                f"draw: keep the old rule, or give another --out (and another --seed if you choose the new rule "
                f"because of the results of the old one). `--certifier anytime` may be extended freely"
            )


def _refuse_changed_images(planned: Plan, store: Store) -> None:
    """Raise ValueError if the folder counted other pixels, or another label, for an image of the plan."""
    manifest = store.manifest()
    pixels, labels = manifest.get("pixels", {}), manifest.get("labels", {})
    then = manifest.get("libraries") or {}
    decoders = {name: (then[name], now) for name, now in decoder_versions().items() if then.get(name, now) != now}
    hint = "".join(f" (decoded with {name} {now}, and with {old} then)" for name, (old, now) in decoders.items())
    for image in planned.images:
        number, label = str(image), int(planned.split.labels[image])
        if pixels.get(number, now := planned.split.pixel_hash(image)) != now or labels.get(number, label) != label:
            raise InputError(
                f"image {image} of {planned.split.title} is not the image that {store.folder} counted: its pixels or "
                f"its label changed{hint}. Restore the data set, or give another --out"
            )


def _refuse_hidden_cells(planned: Plan, folder: Path) -> None:
    """Raise ValueError if a new sweep would hide exported results behind cells of another identity.

    The reading commands show the cells of the latest sweep only. A folder with a database is a run in the making,
    whose cells may change with the code of a plugin; a folder of exports is a result.
    """
    if (folder / DATABASE).is_file() or not (folder / MANIFEST).is_file():
        return
    stored = {(cell.label, cell.sigma): cell for cell in read_run(folder).cells.values()}
    for cell in planned.cells:
        old = stored.get((cell.label, cell.sigma), cell)
        if old.key != cell.key:
            raise InputError(
                f"{folder} holds results of {cell.label} at sigma = {cell.sigma:g} with another identity "
                f"({_differences(old, cell)}); a new sweep would hide them. Read them with `bench summary` (`--alpha` "
                "reads the same counts at another alpha), or give another --out"
            )


def _differences(old: Cell, new: Cell) -> str:
    """Names of the facts in which two cells differ, for a message."""
    if not old.versions:
        return "made by an earlier version of purifybench"
    a, b = asdict(old), asdict(new)
    parts = {"hashes", "versions", "compute"}
    plain = [name for name in a if name not in parts and a[name] != b[name]]
    inner = [k for part in parts for k in {**a[part], **b[part]} if a[part].get(k) != b[part].get(k)]
    return ", ".join(plain + inner)


def _prepare(preset: Preset, before: dict[str, Any], notify: _Notify) -> tuple[Plan, list[str], Executor]:
    """Plan a sweep for the devices of this machine or cluster; returns the plan, the devices and the executor.

    Parameters:
        before: manifest of the folder that is continued; empty for a new one.
    """
    if preset.executor == "local":
        place = device_of(preset.device, before, lambda kind: choose_devices(kind, 1))
        devices = choose_devices(place, preset.workers)
        kind = devices[0].split(":")[0]
        if gain := advice(preset, devices[0]):
            notify(gain)
        planned = make_plan(with_device_defaults(preset, kind), kind)
        planned = settle_options(planned, devices[0], notify=notify, before=before, workers=len(devices))
        return planned, devices, start(planned, devices, notify)
    from bench.executors.ray_cluster import RayCluster
    from bench.executors.ray_connection import Cluster

    cluster = Cluster(preset.address, preset.device, preset.workers)
    executor = None
    try:
        planned = make_plan(with_device_defaults(preset, cluster.devices[0]), cluster.devices[0])
        facts = planned.weights, planned.plugin_files, planned.cells, preset.timeout
        executor = RayCluster(cluster, images_of(planned), *facts, notify=notify)
        settled = executor.measure, notify, before, len(cluster.devices)
        planned = settle_options(planned, cluster.devices[0], *settled)
        executor.start()
        return planned, cluster.devices, executor
    except BaseException:
        (executor or cluster).close()
        raise


def images_of(planned: Plan) -> dict[int, np.ndarray]:
    """Index -> pixels `[C,H,W]` of every image that is certified."""
    return {i: planned.split.images[i] for i in planned.images}


def start(planned: Plan, devices: list[str], notify: _Notify = lambda message: None) -> Executor:
    """The executor of a plan on this machine: this process for one device, one process per device for more."""
    images = images_of(planned)
    if len(devices) > 1:
        return Processes(images, planned.weights, devices, planned.plugin_files, notify)
    engine = Engine(images, planned.weights, prepare_device(devices[0]), planned.plugin_files)
    return Pipelined(engine) if engine.device.type == "cuda" else InProcess(engine, planned.preset.timeout)
