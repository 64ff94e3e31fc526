"""How near purified images come to clean ones, against what they certify: the record of that part of the page."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from bench.report.words import UNKNOWN
from bench.store.quality import KINDS, Measured, Metrics, Value

FEWEST = 4  # purifiers whose ranks are compared


def quality(table: pd.DataFrame, rows: Sequence[dict[str, Any]], found: Mapping[str, Metrics]) -> dict[str, Any]:
    """The metrics there are, each with who judged; by row its figures; how they rank beside what is certified.

    Parameters:
        table: the rows as `drawable` has them; rows: as the record has them, in the same order.
        found: by run.
    """
    cells = {(run, cell.cell): cell for run, metrics in found.items() for cell in metrics.cells}
    keys = zip(table["run"], table["cell"], strict=True) if len(table) else ()
    own = [cells.get(key) for key in keys]
    names = [name for name in KINDS if any(cell and name in cell.values for cell in own)]
    points = [{name: point(cell, name) for name in names if name in cell.values} if cell else {} for cell in own]
    comparable = {name: len(set(measured_by(name, found))) == 1 for name in names}
    return {
        "metrics": [described(name, found, comparable[name]) for name in names],
        "missing": [{"head": KINDS[name].head, "why": why} for name, why in missing(found, names)],
        "points": points,
        "ranks": {name: ranks(name, rows, points) if comparable[name] else {} for name in names},
        "draws": "; ".join(dict.fromkeys(m.looked_at for m in found.values())),
        "trained": any(p["trained"] for row in points for p in row.values()),
    }


def measured_by(name: str, found: Mapping[str, Metrics]) -> Iterator[tuple[Any, ...]]:
    """Who judged, and on how much: figures of which that is not the same do not compare."""
    yield from ((m.networks[name], m.images, m.draws) for m in found.values() if name in m.networks)


def point(cell: Measured, name: str) -> dict[str, Any]:
    """A figure of a row, and whether its network was trained to lower it."""
    value = cell.values[name]
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "words": words(value),
        "trained": name in cell.trained_on,
    }


def words(value: Value) -> str:
    ends = "" if value.low is None or value.high is None else f" [{three(value.low)}, {three(value.high)}]"
    return three(value.value) + ends


def three(value: float) -> str:
    """Three digits, those at the end that are zero too: figures of one column are as long as one another."""
    if not value or not math.isfinite(value):
        return f"{value:g}"
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def described(name: str, found: Mapping[str, Metrics], comparable: bool) -> dict[str, Any]:
    kind = KINDS[name]
    judges = dict.fromkeys(network.name for network, *_ in measured_by(name, found))
    return {
        "name": name,
        "head": kind.head,
        "words": kind.words,
        "unit": kind.unit,
        "title": kind.title,
        "judge": "; ".join(judges),
        "comparable": comparable,
    }


def missing(found: Mapping[str, Metrics], names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What could not be measured, and why."""
    seen = {(name, why) for m in found.values() for name, why in m.missing.items() if name not in names}
    yield from sorted(seen)


def ranks(name: str, rows: Sequence[dict[str, Any]], points: Sequence[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """By sigma and by metric of robustness, Spearman's rank correlation with it over the purifiers, in words.

    Plain smoothing takes no part: it purifies nothing, and would make any correlation look strong.
    """
    said: dict[str, dict[str, str]] = {}
    both = [(r, p[name]["value"]) for r, p in zip(rows, points, strict=True) if name in p and r["family"] != "none"]
    for sigma in dict.fromkeys(row["sigma"]["words"] for row, _ in both):
        mine = [(row, value) for row, value in both if row["sigma"]["words"] == sigma]
        for metric in dict.fromkeys(key for row, _ in mine for key in row["metrics"]):
            pairs = [(row["metrics"][metric]["value"], value) for row, value in mine if metric in row["metrics"]]
            if len(pairs) >= FEWEST and (rho := correlation(np.array(pairs))) is not None:
                said.setdefault(sigma, {})[metric] = f"{rho:+.2f} over {len(pairs)} purifiers".replace("-", "−")
    return said


def correlation(pairs: np.ndarray) -> float | None:
    """Spearman's rank correlation of the two columns; None where one of them does not vary."""
    with warnings.catch_warnings(action="ignore"):  # which is what scipy warns of
        found = float(spearmanr(pairs[:, 0], pairs[:, 1]).statistic)
    return None if math.isnan(found) else found


def lines(rows: Sequence[dict[str, Any]], found: dict[str, Any]) -> list[dict[str, Any]]:
    """The table of all figures of quality: a line for each row that has one."""
    return [
        {
            "row": row,
            "cells": [
                {
                    "value": own[m["name"]]["value"] if m["name"] in own else "",
                    "words": own[m["name"]]["words"].partition(" ")[0] if m["name"] in own else UNKNOWN,
                    "small": own[m["name"]]["words"].partition(" ")[2] if m["name"] in own else "",
                    "trained": m["name"] in own and own[m["name"]]["trained"],
                }
                for m in found["metrics"]
            ],
        }
        for row, own in zip(rows, found["points"], strict=True)
        if own
    ]
