"""Attack the certificates of a stored run, cell by cell, in worker processes."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.attack.base import ATTACK, AttackError
from bench.attack.search import Certified, Search, attack_images
from bench.attack.target import ROWS
from bench.engine import Engine, Loader, LoadError, PluginFault
from bench.engine.compute import eager
from bench.engine.devices import device_name, prepare_device
from bench.errors import RunError
from bench.executors.worker import WorkerContext, end_with_parent, ignore_interrupts
from bench.plugins import plugin_hash
from bench.plugins.fingerprint import source
from bench.plugins.registry import create, discover, parameters
from bench.provenance import version_record
from bench.quality import chosen_images
from bench.quality.replay import MetricsError, Pair, recount
from bench.records import Cell, label_of, parameters_text
from bench.store.attacks import CODE, AttackedCell, AttackedImage, Attacks
from bench.sweep import Plan, start

_FEWEST = 10  # certificates in a share of a cell: fewer would not fill a batch


@dataclass(frozen=True)
class _Share:
    """Certificates of one cell that are attacked together, with their images `[n,C,H,W]`."""

    cell: Cell
    certified: tuple[Certified, ...]
    clean: np.ndarray
    tried: int


class _Worker:
    """Attacks shares of cells on one device; networks stay loaded."""

    def __init__(
        self, weights: Mapping[str, str], plugin_files: Mapping[str, Mapping[str, str]], device: str, search: Search
    ):
        self._device, self._search = prepare_device(device), search
        self._facts = weights, plugin_files
        self._loader: Loader | None = None
        self._engine: Engine | None = None

    def run(self, share: _Share) -> tuple[list[AttackedImage], str, float]:
        """The results of a share, how gradients were computed, and seconds."""
        started = time.perf_counter()
        weights, plugin_files = self._facts
        if self._loader is None:
            self._loader = Loader(weights, self._device, tuple(share.clean.shape[1:]), plugin_files)
        # Gradients need no fixed way to compute: what they find is judged by the cell itself.
        loaded = self._loader.load(eager(share.cell, ROWS))
        images = {c.image: pixels for c, pixels in zip(share.certified, share.clean, strict=True)}
        if self._engine is None:
            self._engine = Engine(images, weights, self._device, plugin_files)
        self._engine = replace(self._engine, images=images, loader=self._engine._loader)
        found, method = attack_images(
            share.cell, loaded, self._engine, share.clean, share.certified, self._search, share.tried
        )
        return found, method, time.perf_counter() - started


_worker: _Worker | None = None  # of a worker process


def _begin(
    weights: Mapping[str, str],
    plugin_files: Mapping[str, Mapping[str, str]],
    devices: Any,
    attack: tuple[str, Mapping[str, Any]],
    settings: tuple[int, int, int, float],
) -> None:
    global _worker
    ignore_interrupts()
    end_with_parent()
    _worker = _Worker(weights, plugin_files, devices.get(), Search(create(ATTACK, *attack), *settings))


def _run(share: _Share) -> tuple[list[AttackedImage], str, float]:
    assert _worker is not None
    return _worker.run(share)


class _Pool:
    """Workers for shares of cells: this process for one device, one process per device for more."""

    def __init__(self, plan: Plan, devices: Sequence[str], search: Search):
        facts = plan.weights, plan.plugin_files
        self._here = _Worker(*facts, devices[0], search) if len(devices) == 1 else None
        self._pool: ProcessPoolExecutor | None = None
        if self._here is None:
            context = WorkerContext()
            queue = multiprocessing.get_context("spawn").Queue()
            for device in devices:
                queue.put(device)
            # A worker makes the attack by itself: the class of a file cannot be sent to another process.
            attack = search.attack
            name = attack.name if attack.name in discover(ATTACK) else source(type(attack))
            made = (*facts, queue, (name, parameters(attack)), _settings(search))
            self._pool = ProcessPoolExecutor(len(devices), context, _begin, made)
        self.workers = len(devices)

    def submit(self, share: _Share) -> Future[Any]:
        if self._pool is not None:
            return self._pool.submit(_run, share)
        assert self._here is not None
        future: Future[Any] = Future()
        try:
            future.set_result(self._here.run(share))
        except Exception as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)


def choose(pairs: Sequence[Pair], names: Sequence[str] | None, sigmas: Sequence[float] | None) -> list[Pair]:
    """The cells with one of some names (of a purifier, alone or with its parameters) and noise levels.

    Raises:
        AttackError: nothing of the run has such a name or noise level.
    """
    wanted = [name.strip() for name in names] if names else None
    known = sorted({name for pair in pairs for name in (pair.stored.purifier, pair.stored.label)})
    levels = sorted({pair.stored.sigma for pair in pairs})
    if unknown := [name for name in wanted or () if name not in known]:
        raise AttackError(f"the run has no purifier {unknown[0]!r}; it has {', '.join(known)}")
    if unknown_levels := [sigma for sigma in sigmas or () if sigma not in levels]:
        raise AttackError(f"the run has no sigma = {unknown_levels[0]:g}; it has {', '.join(f'{s:g}' for s in levels)}")
    return [
        pair
        for pair in pairs
        if (wanted is None or pair.stored.purifier in wanted or pair.stored.label in wanted)
        and (not sigmas or pair.stored.sigma in sigmas)
    ]


def attack_run(
    run: Any,
    certificates: pd.DataFrame,
    plan: Plan,
    pairs: Sequence[Pair],
    search: Search,
    images: int,
    devices: Sequence[str],
    before: Attacks | None,
    notify: Callable[[str], object],
) -> Iterator[Attacks]:
    """Yield the attacks on a run after every attacked cell. Cells that were attacked in the same way before are kept.

    Parameters:
        run: the stored run.
        certificates: of its cells, as `bench.summary.Summary` has them.
        pairs: the cells to attack.
        images: number of images, balanced over the classes.

    Raises:
        RunError: a worker died.
    """
    chosen = chosen_images(plan, images)
    preset = run.manifest.get("preset", {})
    made = {**version_record(("torch",)), "device": device_name(prepare_device(devices[0])), "workers": len(devices)}
    if not type(search.attack).__module__.startswith("bench."):
        made[CODE] = plugin_hash(type(search.attack))
    name = label_of(search.attack.name, parameters_text(parameters(search.attack)))
    record = Attacks(name, len(chosen), *_settings(search), float(preset.get("alpha", 0.001)), made)
    if before and not before.same_settings(record):
        notify("the attacks that are stored were made with other settings, and are replaced")
    kept = {cell.cell: cell for cell in before.cells} if before and before.same_settings(record) else {}
    kept = {pair.stored.key: kept[pair.stored.key] for pair in _unchanged(pairs, kept)} | {
        key: cell for key, cell in kept.items() if key not in {pair.stored.key for pair in pairs}
    }
    missing: dict[str, str] = {}

    def result() -> Attacks:
        return replace(record, cells=tuple(kept[key] for key in run.cells if key in kept), missing=missing)

    waiting = [pair for pair in pairs if pair.stored.key not in kept]
    with closing(_Pool(plan, devices, search)) as pool, closing(start(plan, [devices[0]])) as executor:
        for pair in waiting:
            decided = certificates[certificates["cell"] == pair.stored.key].set_index("image")
            shown = f"{pair.stored.label} at sigma = {pair.stored.sigma:g}"
            try:
                recounted = recount(run, pair, executor)
                kept[pair.stored.key] = _attack_cell(pair, decided, chosen, plan, pool, recounted)
            except BrokenProcessPool as error:
                raise RunError("a worker died, probably for lack of memory; give fewer --workers") from error
            except (PluginFault, LoadError, AttackError, MetricsError) as error:
                missing[shown] = str(error)
                notify(f"not attacked: {shown}: {error}")
                continue
            yield result()
    yield result()


def _settings(search: Search) -> tuple[int, int, int, float]:
    return search.restarts, search.rounds, search.draws, search.level


def _unchanged(pairs: Sequence[Pair], kept: Mapping[str, AttackedCell]) -> list[Pair]:
    """The cells that were attacked with the code of today."""
    return [pair for pair in pairs if pair.stored.key in kept and kept[pair.stored.key].code == pair.current.key]


def _attack_cell(
    pair: Pair, decided: pd.DataFrame, chosen: Sequence[int], plan: Plan, pool: _Pool, recounted: tuple[int, int]
) -> AttackedCell:
    """Attack the certificates of one cell; `decided` holds its certificates by image."""
    rows = decided.loc[[image for image in chosen if image in decided.index]]
    proved = rows[(rows["predicted"] >= 0) & (rows["radius"] > 0) & (rows["p_lower"] > 0.5)]
    zero = int(((rows["predicted"] >= 0) & (rows["radius"] == 0) & rows["correct"].astype(bool)).sum())
    certified = [
        Certified(int(image), int(row["label"]), int(row["predicted"]), float(row["radius"]))
        for image, row in proved.iterrows()
    ]
    size = max(_FEWEST, -(-len(certified) // pool.workers))
    parts = [certified[at : at + size] for at in range(0, len(certified), size)]
    futures = [
        pool.submit(_Share(pair.current, tuple(part), plan.split.images[[c.image for c in part]], len(certified)))
        for part in parts
    ]
    results = [future.result() for future in futures]
    found = tuple(image for images, _, _ in results for image in images)
    method = results[0][1] if results else "no certificate"
    seconds = round(sum(seconds for _, _, seconds in results), 2)
    facts = pair.stored.key, pair.current.key, pair.stored.label, pair.stored.sigma
    return AttackedCell(*facts, method, len(rows), zero, found, seconds, *recounted)
