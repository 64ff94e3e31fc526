"""How sure the fronts are: how often a row lies on one, and what its sigma gives on images that did not choose it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from bench.report.words import percent
from bench.summary.fronts import front_shares
from bench.summary.pairs import certified, certifiers_of
from bench.summary.statistics import FEWEST, resampled_means, split_halves
from bench.summary.summary import Summary

COSTS = ("nfe", "ms", "seconds")
ENVELOPE = "best"  # of all sigmas


def add_shares(summary: Summary, table: pd.DataFrame, rows: list[dict[str, Any]]) -> None:
    """Give every metric of every row `front`: by sigma (or `ENVELOPE`) and cost, how often it is on that front.

    All families compete that have counts of all their images; rows that do not, or share too few images, have none.
    Metrics of rows that have another sigma beside them get `fair`, too: see `add_halves`.
    """
    whole = [row for row, own in zip(rows, table.to_dict("records"), strict=True) if is_whole(row, own)]
    for row in rows:
        for metric in row["metrics"].values():
            metric |= {"front": {}, "fair": None}
    sigmas = dict.fromkeys(row["sigma"]["words"] for row in whole)
    scopes = {words: [row for row in whole if row["sigma"]["words"] == words] for words in sigmas}
    if len(scopes) > 1:
        scopes[ENVELOPE] = whole
        add_halves(summary, table, whole)
    for scope, kin in scopes.items():
        add_scope(summary, table, scope, kin)


def is_whole(row: dict[str, Any], own: dict[str, Any]) -> bool:
    return not row["imported"] and not isinstance(own["error"], str) and own["images"] >= own["wanted"]


def add_scope(summary: Summary, table: pd.DataFrame, scope: str, kin: list[dict[str, Any]]) -> None:
    """The shares of rows that compete with one another, for every metric and cost."""
    mine = table.iloc[[row["id"] for row in kin]]
    images, radii = certified(summary, mine)
    if len(images) < FEWEST:
        return
    values = contributions(summary, mine, radii)
    means = resampled_means(np.concatenate(list(values.values()), axis=1))
    for name, columns in zip(values, np.split(means, len(values), axis=1), strict=True):
        there = [i for i, row in enumerate(kin) if name in row["metrics"]]
        for cost in COSTS:
            shares = front_shares([cost_of(kin[i], name, cost) for i in there], columns[:, there])
            for i, share in zip(there, shares, strict=True):
                kin[i]["metrics"][name]["front"].setdefault(scope, {})[cost] = f"{100 * share:.0f} %"


def add_halves(summary: Summary, table: pd.DataFrame, whole: list[dict[str, Any]]) -> None:
    """Give every metric of every purifier with several sigmas `fair`: what the best of them gives where one half of the
    images chooses it and the other half reads it."""
    mine = table.iloc[[row["id"] for row in whole]]
    images, radii = certified(summary, mine)
    if len(images) < FEWEST:
        return
    values = contributions(summary, mine, radii)
    kin = mine.groupby("series", sort=False).indices.values()
    asked = [
        (name, there)
        for name in values
        for members in kin
        if len(there := [i for i in members if name in whole[i]["metrics"]]) > 1
    ]
    first = {name: len(whole) * i for i, name in enumerate(values)}
    groups = [[first[name] + i for i in there] for name, there in asked]
    found = split_halves(np.concatenate(list(values.values()), axis=1), groups)
    for (name, there), (mean, _) in zip(asked, found, strict=True):
        for i in there:
            whole[i]["metrics"][name]["fair"] = f"{mean:.3f}" if name == "acr" else percent(mean)


def contributions(summary: Summary, rows: pd.DataFrame, radii: np.ndarray) -> dict[str, np.ndarray]:
    """By metric, what each image adds to each row: `[images, rows]`, whether it is certified, or its radius."""
    values = {f"{r:g}": (radii >= r).astype(float) for r in summary.radii}
    if len(certifiers_of(rows)) == 1:  # average radii of different ones do not compare
        values["acr"] = np.maximum(radii, 0.0)
    return values


def cost_of(row: dict[str, Any], metric: str, cost: str) -> float:
    """What a row costs; plain smoothing purifies nothing. NaN, and never on a front, where that is not known."""
    if cost == "seconds":
        value = row["metrics"][metric]["seconds"]["value"]
    else:
        value = 0.0 if row["family"] == "none" else row[cost]["value"]
    return float("nan") if value is None else value
