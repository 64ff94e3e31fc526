"""Measure the quality of purification of a run, on the draws that it certified."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from bench.engine import LoadError, PluginFault
from bench.engine.devices import device_name
from bench.executors import Executor
from bench.plugins import registry as plugins
from bench.provenance import version_record
from bench.quality.metrics import Metric, Reference
from bench.quality.replay import recount
from bench.records import Cell, label_of, parameters_text
from bench.store import Run
from bench.store.quality import Measured, Metrics, Value
from bench.summary.statistics import mean_interval
from bench.sweep import Pair, Plan, PlanError
from purifiers.nets.hub.cards import WeightsError, read_card
from purifiers.nets.hub.sources import find

_CHUNK = 50  # images that are purified together
_LIBRARIES = ("torch", "torchvision", "lpips", "torch-fidelity")


def reference_of(plan: Plan, images: Sequence[int], perceptual: str, device: str) -> Reference:
    """The clean images and the classifier of a run; raises PlanError if the classifier cannot be loaded."""
    name, parameters = plan.preset.classifier.name, plan.preset.classifier.parameters
    classifier = plugins.create(plugins.CLASSIFIER, name, parameters)
    try:
        logits = classifier.load(device)
    except Exception as error:
        raise PlanError(f"classifier {name!r} cannot be loaded ({type(error).__name__}: {error})") from error
    clean = np.ascontiguousarray(plan.split.images[list(images)], np.float32)
    title = label_of(classifier.name, parameters_text(plugins.parameters(classifier)))
    return Reference(clean, plan.preset.dataset, logits, title, tuple(classifier.files()), perceptual, device)


def measure(
    run: Run,
    pairs: Sequence[Pair],
    plan: Plan,
    executor: Executor,
    metrics: Mapping[str, Metric],
    request: Metrics,
    images: Sequence[int],
    before: Metrics | None,
    notify: Callable[[str], None],
) -> Iterator[Metrics]:
    """Yield the metrics of a run after every measured cell. Earlier values on the same draws are kept.

    Parameters:
        request: the record to fill, without cells.
        images: on which to measure.
        before: the metrics that are stored already.

    Raises:
        MetricsError: the draws are not those that the run counted.
    """
    earlier = before if before and before.same_draws(request) else replace(request, networks={}, missing={})
    networks = {**earlier.networks, **request.networks}
    missing = {name: reason for name, reason in earlier.missing.items() if name not in networks} | dict(request.missing)
    record = replace(request, networks=networks, missing=missing)
    current_keys = {pair.stored.key: pair.current.key for pair in pairs}
    measured = {}
    for cell in earlier.cells:
        if current_keys.get(cell.cell) == cell.code:  # else its code has changed since
            same = {n: value for n, value in cell.values.items() if earlier.networks.get(n) == networks.get(n)}
            measured[cell.cell] = replace(cell, values=same)

    def values_of(pair: Pair) -> dict[str, Value]:
        return dict(measured[pair.stored.key].values) if pair.stored.key in measured else {}

    def purify(cell: Cell, draw: int) -> list[Any]:
        chunks = (list(images[at : at + _CHUNK]) for at in range(0, len(images), _CHUNK))
        return [executor.show(cell, chunk, draw) for chunk in chunks]

    def result() -> Metrics:
        cells = tuple(measured[key] for key in run.cells if key in measured and measured[key].values)
        return replace(record, cells=cells)

    waiting = [pair for pair in pairs if metrics.keys() - values_of(pair)]
    submitted = ((pair, [purify(pair.current, draw) for draw in range(request.draws)]) for pair in waiting)
    upcoming = next(submitted, None)
    while upcoming is not None:
        pair, draws = upcoming
        upcoming = next(submitted, None)  # the executor purifies the next cell while this one is measured
        key, values = pair.stored.key, values_of(pair)
        try:
            facts = measured.get(key)
            recounted, moved = (facts.recounted, facts.moved) if facts else recount(run, pair, executor)
            purified = [np.concatenate([chunk.result()[1] for chunk in chunks]) for chunks in draws]
        except (PluginFault, LoadError) as error:
            notify(f"not measured: {error}")
            continue
        values |= {name: _value_of(metric, purified) for name, metric in metrics.items() if name not in values}
        identity = (key, pair.current.key, pair.stored.label, pair.stored.sigma)
        measured[key] = Measured(*identity, recounted, moved, _trained_on(pair.current, plan, record), values)
        yield result()
    yield result()


def _value_of(metric: Metric, purified: Sequence[np.ndarray]) -> Value:
    """The mean over draws, with the interval of the mean over images if every image has a value."""
    figures = np.mean(np.stack([np.asarray(metric.measure(draw)) for draw in purified]), axis=0)
    if figures.ndim == 0:
        return Value(_rounded(figures))
    low, high = mean_interval(figures)
    return Value(_rounded(figures.mean()), *(None if np.isnan(end) else _rounded(end) for end in (low, high)))


def _rounded(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _trained_on(cell: Cell, plan: Plan, record: Metrics) -> tuple[str, ...]:
    """Metrics that a network of the cell was trained to lower, according to its card."""
    roles = [name.removeprefix("network ") for name in cell.hashes if name.startswith("network ")]
    distances = {_training_distance(plan.weights[role]) for role in roles}
    return tuple(name for name, network in record.networks.items() if network.name in distances)


def _training_distance(network: str) -> str | None:
    """The distance that a network of this project was trained to lower; None if it has no card or no such distance."""
    try:
        source = find(network)
        return read_card(source.path).training.get("distance") if source.is_card else None
    except WeightsError:
        return None


def environment(device: str, precision: str) -> dict[str, Any]:
    """Versions and device, for the record; it names no person and no path."""
    return {**version_record(_LIBRARIES), "device": device_name(torch.device(device)), "precision": precision}
