"""The uncertainty of the fronts: the share of resamples in which a row lies on one, and split-half figures of sigma."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.summary import Summary
from bench.summary.format import percent
from bench.summary.fronts import front_shares
from bench.summary.pairs import certified, certifiers_of
from bench.summary.palette import OWN_CLASSIFIER, PLAIN
from bench.summary.statistics import FEWEST, resampled_means, split_halves

_COSTS = ("nfe", "ms", "gflops", "joint", "seconds")
_ENVELOPE = "best"  # of all sigmas


def add_shares(summary: Summary, table: pd.DataFrame, rows: list[dict[str, Any]]) -> None:
    """Add `front` and `fair` to every metric of every row.

    `front`: by sigma (or `_ENVELOPE`) and cost, the share of resamples of the images in which the row is on that front.
    Complete rows with counts compete; others, and rows that share too few images, have none. `fair`: see `_add_halves`.
    """
    complete = ~table["imported"] & table["complete"] if len(table) else []
    whole = [row for row, competes in zip(rows, complete, strict=True) if competes]
    for row in rows:
        for metric in row["metrics"].values():
            metric |= {"front": {}, "fair": None}
    sigmas = dict.fromkeys(row["sigma"]["words"] for row in whole)
    scopes = {words: [row for row in whole if row["sigma"]["words"] == words] for words in sigmas}
    if len(scopes) > 1:
        scopes[_ENVELOPE] = whole
        _add_halves(summary, table, whole)
    for scope, rivals in scopes.items():
        _add_scope(summary, table, scope, rivals)


def _add_scope(summary: Summary, table: pd.DataFrame, scope: str, rivals: list[dict[str, Any]]) -> None:
    """Add the shares of rows that compete with one another, for every metric and cost."""
    values = _contributions(summary, table, rivals)
    if not values:
        return
    means = resampled_means(np.concatenate(list(values.values()), axis=1))
    for name, columns in zip(values, np.split(means, len(values), axis=1), strict=True):
        there = [i for i, row in enumerate(rivals) if name in row["metrics"]]
        for cost in _COSTS:
            shares = front_shares([_cost_of(rivals[i], name, cost) for i in there], columns[:, there])
            for i, share in zip(there, shares, strict=True):
                rivals[i]["metrics"][name]["front"].setdefault(scope, {})[cost] = percent(share, 0)


def _add_halves(summary: Summary, table: pd.DataFrame, whole: list[dict[str, Any]]) -> None:
    """Add `fair` to every metric of the purifiers with several sigmas.

    It is the figure of the best sigma, chosen on one half of the images and read on the other half.
    """
    values = _contributions(summary, table, whole)
    if not values:
        return
    purifiers = pd.DataFrame(whole).groupby("series", sort=False).indices.values()
    choices = [
        (name, there)
        for name in values
        for members in purifiers
        if len(there := [i for i in members if name in whole[i]["metrics"]]) > 1
    ]
    offsets = {name: len(whole) * i for i, name in enumerate(values)}
    groups = [[offsets[name] + i for i in there] for name, there in choices]
    halves = split_halves(np.concatenate(list(values.values()), axis=1), groups)
    for (name, there), (mean, _) in zip(choices, halves, strict=True):
        for i in there:
            whole[i]["metrics"][name]["fair"] = f"{mean:.3f}" if name == "acr" else percent(mean)


def _contributions(summary: Summary, table: pd.DataFrame, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """By metric, the contribution of each image to each row `[images, rows]`: 1 if it is certified, or its radius.

    Nothing if the rows share too few images.
    """
    selected = table.iloc[[row["id"] for row in rows]]
    images, radii = certified(summary, selected)
    if len(images) < FEWEST:
        return {}
    values = {f"{r:g}": (radii >= r).astype(float) for r in summary.radii}
    if len(certifiers_of(selected)) == 1:  # average radii of different ones do not compare
        values["acr"] = np.maximum(radii, 0.0)
    return values


def _cost_of(row: dict[str, Any], metric: str, cost: str) -> float:
    """The cost of a row; of purification, 0 for plain smoothing; NaN if unknown, which is never on a front."""
    if cost == "seconds":
        value = row["metrics"][metric]["seconds"]["value"]
    else:
        purifies = row["family"] not in (PLAIN, OWN_CLASSIFIER) or cost not in ("nfe", "ms")
        value = row[cost]["value"] if purifies else 0.0
    return float("nan") if value is None else value
