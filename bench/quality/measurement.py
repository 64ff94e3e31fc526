"""Measure the quality of purification of a run, on the very draws that it certified."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
import torch

import bench
from bench.engine.checks import PluginFault
from bench.engine.devices import device_name
from bench.engine.engine import LoadError
from bench.executors.base import Executor
from bench.plugins import registry as plugins
from bench.provenance import git_revision, library_version
from bench.quality.judges import Judge, Setting
from bench.quality.replay import Pair, recount
from bench.records import Cell, Shown
from bench.store.quality import Measured, Metrics, Value
from bench.store.run import Run
from bench.summary.statistics import mean_interval
from bench.sweep.plan import Plan, PlanError
from purifiers.nets.hub.cards import WeightsError, read_card
from purifiers.nets.hub.sources import find

CHUNK = 50  # images that are purified together
LIBRARIES = ("torch", "torchvision", "lpips", "torch-fidelity")


def setting(made: Plan, images: Sequence[int], perceptual: str, device: str) -> Setting:
    """What the judges need to know; raises PlanError where the classifier cannot be loaded."""
    asked = made.preset.classifier
    classifier = plugins.create(plugins.CLASSIFIER, asked.name, asked.parameters)
    inside = ", ".join(f"{k}={v}" for k, v in plugins.parameters(classifier).items())
    try:
        loaded = classifier.load(device)
    except Exception as error:
        raise PlanError(f"classifier {asked.name!r} cannot be loaded ({type(error).__name__}: {error})") from error
    clean = np.ascontiguousarray(made.split.images[list(images)], np.float32)
    name = f"{classifier.name}({inside})" if inside else classifier.name
    return Setting(clean, made.preset.dataset, loaded, name, tuple(classifier.files()), perceptual, device)


def measure(
    run: Run,
    pairs: Sequence[Pair],
    made: Plan,
    executor: Executor,
    judges: Mapping[str, Judge],
    asked: Metrics,
    images: Sequence[int],
    before: Metrics | None,
    say: Callable[[str], None],
) -> Iterator[Metrics]:
    """The metrics of a run, once more after every cell; what was measured before on the same draws is kept.

    Parameters:
        asked: without cells.
        images: on which to measure.
        before: metrics that are there already.

    Raises:
        MetricsError: the draws are not those that the run counted.
    """
    kept = before if before is not None and before.same_draws(asked) else replace(asked, networks={}, missing={})
    networks = {**kept.networks, **asked.networks}
    found = {cell.cell: valid(cell, pairs, kept, networks) for cell in kept.cells}
    missing = {**{m: why for m, why in kept.missing.items() if m not in networks}, **asked.missing}
    record = replace(asked, networks=networks, missing=missing)
    waiting = [pair for pair in pairs if set(judges) - set(values_of(found.get(pair.own.key)))]
    for pair, shown in ahead(
        waiting, lambda pair: [show(executor, pair.now, images, draw) for draw in range(asked.draws)]
    ):
        old = found.get(pair.own.key)
        todo = {name: judge for name, judge in judges.items() if name not in values_of(old)}
        try:
            recounted, moved = (old.recounted, old.moved) if old else recount(run, pair, executor)
            purified = [np.concatenate([part.result()[1] for part in parts]) for parts in shown]
        except (PluginFault, LoadError) as error:
            say(f"not measured: {error}")
            continue
        values = {**values_of(old), **{name: value_of(judge, purified) for name, judge in todo.items()}}
        facts = (pair.own.key, pair.now.key, pair.own.label, pair.own.sigma)
        found[pair.own.key] = Measured(*facts, recounted, moved, trained_on(pair.now, made, record), values)
        yield replace(record, cells=in_order(run, found))
    yield replace(record, cells=in_order(run, found))


def valid(cell: Measured, pairs: Sequence[Pair], kept: Metrics, networks: Mapping[str, Any]) -> Measured | None:
    """A cell that was measured before, with the figures that still hold; None where its code is another."""
    if not any((pair.own.key, pair.now.key) == (cell.cell, cell.code) for pair in pairs):
        return None
    values = {name: value for name, value in cell.values.items() if kept.networks.get(name) == networks.get(name)}
    return replace(cell, values=values)


def values_of(cell: Measured | None) -> dict[str, Value]:
    return dict(cell.values) if cell else {}


def in_order(run: Run, found: Mapping[str, Measured | None]) -> tuple[Measured, ...]:
    return tuple(cell for key in run.cells if (cell := found.get(key)) is not None and cell.values)


def ahead(pairs: Sequence[Pair], submit: Callable[[Pair], Any]) -> Iterator[tuple[Pair, Any]]:
    """Each cell with what was submitted for it, one cell ahead: its judges work while the next one is purified."""
    waiting: list[tuple[Pair, Any]] = []
    for pair in pairs:
        waiting.append((pair, submit(pair)))
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def show(executor: Executor, cell: Cell, images: Sequence[int], draw: int) -> list[Future[Shown]]:
    """An estimation draw of the images, some at a time."""
    return [executor.show(cell, list(images[at : at + CHUNK]), draw) for at in range(0, len(images), CHUNK)]


def value_of(judge: Judge, purified: Sequence[np.ndarray]) -> Value:
    """The mean over draws; where every image has a figure, with the interval of its mean over images."""
    figures = np.mean(np.stack([np.asarray(judge.measure(draw)) for draw in purified]), axis=0)
    if figures.ndim == 0:
        return Value(rounded(figures))
    low, high = mean_interval(figures)
    return Value(rounded(figures.mean()), *(None if np.isnan(end) else rounded(end) for end in (low, high)))


def rounded(value: Any) -> float:
    return float(f"{float(value):.6g}")


def trained_on(cell: Cell, made: Plan, record: Metrics) -> tuple[str, ...]:
    """Metrics that a network of the cell was trained to lower, as its card says."""
    roles = [name.removeprefix("network ") for name in cell.hashes if name.startswith("network ")]
    aims = {aim for role in roles if (aim := aim_of(made.weights[role]))}
    return tuple(name for name, network in record.networks.items() if network.name in aims)


def aim_of(network: str) -> str | None:
    """The distance that a network of ours was trained to lower."""
    try:
        source = find(network)
        return read_card(source.path).training.get("distance") if source.is_card else None
    except WeightsError:
        return None


def made_on(device: str, precision: str) -> dict[str, Any]:
    """Versions and device, for the record; nothing that names a person or a path."""
    found = {name: here for name in LIBRARIES if (here := library_version(name))}
    return {
        "purifybench": bench.__version__,
        "git": git_revision(),
        "python": platform.python_version(),
        "libraries": found,
        "device": device_name(torch.device(device)),
        "precision": precision,
    }
