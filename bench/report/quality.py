"""The section about the quality of purification: distances to clean images beside certified accuracy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd
from scipy.stats import spearmanr

from bench.report.figures import short
from bench.store.quality import KINDS, Measured, Metrics
from bench.summary.palette import OWN_CLASSIFIER, PLAIN

_FEWEST = 4  # purifiers for a rank correlation


def quality(table: pd.DataFrame, rows: Sequence[dict[str, Any]], metrics: Mapping[str, Metrics]) -> dict[str, Any]:
    """The measured metrics with their models, the figures of each row, and rank correlations with robustness.

    Parameters:
        table: the rows of `bench.summary.rows.drawable`.
        rows: the same rows in the record.
        metrics: by run.
    """
    cells = {(run, cell.cell): cell for run, of_run in metrics.items() for cell in of_run.cells}
    own = [cells.get((row["run"], row["cell"])) for row in table.to_dict("records")]
    names = [name for name in KINDS if any(cell and name in cell.values for cell in own)]
    points = [{name: _point(cell, name) for name in names if name in cell.values} if cell else {} for cell in own]
    missing = {item for of_run in metrics.values() for item in of_run.missing.items()}
    comparable = {name: len(set(_measured_by(name, metrics))) == 1 for name in names}
    return {
        "metrics": [_described(name, metrics, comparable[name]) for name in names],
        "missing": [{"head": KINDS[name].head, "why": why} for name, why in sorted(missing) if name not in names],
        "points": points,
        "ranks": {name: _ranks(name, rows, points) if comparable[name] else {} for name in names},
        "draws": "; ".join(dict.fromkeys(m.looked_at for m in metrics.values())),
        "trained": any(p["trained"] for row in points for p in row.values()),
    }


def _measured_by(name: str, metrics: Mapping[str, Metrics]) -> Iterator[tuple[Any, ...]]:
    """The model, and the numbers of images and draws: figures compare only if these are equal."""
    yield from ((m.networks[name], m.images, m.draws) for m in metrics.values() if name in m.networks)


def _point(cell: Measured, name: str) -> dict[str, Any]:
    """A figure of a row; `trained`: a network of the purifier was trained to lower this distance."""
    entry = asdict(cell.values[name])
    interval = "" if entry["low"] is None else f" [{short(entry['low'])}, {short(entry['high'])}]"
    return {**entry, "words": short(entry["value"]) + interval, "trained": name in cell.trained_on}


def _described(name: str, metrics: Mapping[str, Metrics], comparable: bool) -> dict[str, Any]:
    """A metric for the charts; `judge` names the models that compute it."""
    judges = dict.fromkeys(network.name for network, *_ in _measured_by(name, metrics))
    return {"name": name, **KINDS[name]._asdict(), "judge": "; ".join(judges), "comparable": comparable}


def _ranks(name: str, rows: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """By sigma and by metric of robustness, Spearman's rank correlation with it over the purifiers, as text.

    Plain smoothing is left out: it purifies nothing, and would make any correlation look strong.
    """
    pairs: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for row, point in zip(rows, points, strict=True):
        if name in point and row["family"] not in (PLAIN, OWN_CLASSIFIER):
            for metric, entry in row["metrics"].items():
                pairs.setdefault((row["sigma"]["words"], metric), []).append((entry["value"], point[name]["value"]))
    texts: dict[str, dict[str, str]] = {}
    for (sigma, metric), both in pairs.items():
        with warnings.catch_warnings(action="ignore"):  # scipy warns of constant values, whose correlation is NaN
            rho = spearmanr(*zip(*both, strict=True)).statistic if len(both) >= _FEWEST else math.nan
        if not math.isnan(rho):
            texts.setdefault(sigma, {})[metric] = f"{rho:+.2f} over {len(both)} purifiers".replace("-", "−")
    return texts
