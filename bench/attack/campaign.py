"""Attack the certificates of a stored run, cell by cell, in worker processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.attack.base import ATTACK, AttackError
from bench.attack.search import Certified, Search, attack_images
from bench.attack.target import ROWS
from bench.engine import Engine, LoadError, PluginFault
from bench.engine.compute import eager
from bench.engine.devices import device_name, prepare_device
from bench.executors import Executor, describe_cell
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


def _attack_share(
    engine: Engine, share: _Share, attack: tuple[str, Mapping[str, Any]], settings: tuple[int, int, int, float]
) -> tuple[list[AttackedImage], str, float]:
    """The results of a share, how gradients were computed, and seconds. Runs on a worker."""
    started = time.perf_counter()
    # Gradients need no fixed way to compute: what they find is judged by the cell itself.
    loaded = engine.differentiable.load(eager(share.cell, ROWS))
    search = Search(create(ATTACK, *attack), *settings)
    found, method = attack_images(share.cell, loaded, engine, share.clean, share.certified, search, share.tried)
    return found, method, time.perf_counter() - started


def choose(
    pairs: Sequence[Pair],
    names: Sequence[str] | None,
    sigmas: Sequence[float] | None,
    displayed: Mapping[str, str],
) -> list[Pair]:
    """The cells with one of some names and noise levels; a name is looked up as `bench.summary.names.rows_called` does.

    Parameters:
        names: display names, labels, or names of plugins (all of their rows); None: all.
        displayed: label -> display name.

    Raises:
        AttackError: nothing of the run has such a name or noise level.
    """
    wanted: set[str] | None = None
    for name in map(str.strip, names or ()):
        called = (
            {pair.stored.label for pair in pairs if name == of(pair.stored)}
            for of in (lambda cell: displayed[cell.label], lambda cell: cell.label, lambda cell: cell.purifier)
        )
        if not (labels := next(filter(None, called), None)):
            known = ", ".join(dict.fromkeys(displayed[pair.stored.label] for pair in pairs))
            raise AttackError(f"the run has no purifier {name!r}; it has {known}")
        wanted = (wanted or set()) | labels
    levels = sorted({pair.stored.sigma for pair in pairs})
    if unknown_levels := [sigma for sigma in sigmas or () if sigma not in levels]:
        raise AttackError(f"the run has no sigma = {unknown_levels[0]:g}; it has {', '.join(f'{s:g}' for s in levels)}")
    return [
        pair
        for pair in pairs
        if (wanted is None or pair.stored.label in wanted) and (not sigmas or pair.stored.sigma in sigmas)
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
        RunError: workers died repeatedly.
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
    with start(plan, list(devices), notify) as executor:
        for pair in waiting:
            decided = certificates[certificates["cell"] == pair.stored.key].set_index("image")
            shown = describe_cell(pair.stored)
            try:
                recounted = recount(run, pair, executor)
                kept[pair.stored.key] = _attack_cell(pair, decided, chosen, plan, search, executor, recounted)
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
    pair: Pair,
    decided: pd.DataFrame,
    chosen: Sequence[int],
    plan: Plan,
    search: Search,
    executor: Executor,
    recounted: tuple[int, int],
) -> AttackedCell:
    """Attack the certificates of one cell; `decided` holds its certificates by image."""
    rows = decided.loc[[image for image in chosen if image in decided.index]]
    proved = rows[(rows["predicted"] >= 0) & (rows["radius"] > 0) & (rows["p_lower"] > 0.5)]
    zero = int(((rows["predicted"] >= 0) & (rows["radius"] == 0) & rows["correct"].astype(bool)).sum())
    certified = [
        Certified(int(image), int(row["label"]), int(row["predicted"]), float(row["radius"]))
        for image, row in proved.iterrows()
    ]
    size = max(_FEWEST, -(-len(certified) // executor.workers))
    parts = [certified[at : at + size] for at in range(0, len(certified), size)]
    # A worker makes the attack by itself: the class of a file cannot be sent to another process.
    name = search.attack.name if search.attack.name in discover(ATTACK) else source(type(search.attack))
    spec = (name, parameters(search.attack)), _settings(search)
    futures = [
        executor.call(
            f"the attack on {describe_cell(pair.stored)}",
            _attack_share,
            _Share(pair.current, tuple(part), plan.split.images[[c.image for c in part]], len(certified)),
            *spec,
        )
        for part in parts
    ]
    results = [future.result() for future in futures]
    found = tuple(image for images, _, _ in results for image in images)
    method = results[0][1] if results else "no certificate"
    seconds = round(sum(seconds for _, _, seconds in results), 2)
    facts = pair.stored.key, pair.current.key, pair.stored.label, pair.stored.sigma
    return AttackedCell(*facts, method, len(rows), zero, found, seconds, *recounted)
