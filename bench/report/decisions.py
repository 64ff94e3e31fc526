"""The recommendations of the page, computed beforehand for every radius and budget that it offers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.analysis.recommendation import Recommendation, recommend
from bench.analysis.standings import Option, Standing
from bench.records import COUNTED
from bench.report.figures import short
from bench.summary.format import p_text, percent, percent_interval
from bench.summary.statistics import CONFIDENCE
from bench.summary.summary import Summary

MOST_BUDGETS = 8  # of each kind
MOST_CANDIDATES = 12


@dataclass(frozen=True)
class Budget:
    """The highest allowed cost of a purified image: a keyword of `recommend`, or none for any cost."""

    kind: str
    words: str
    limit: dict[str, float] = field(default_factory=dict)


ANY = Budget("", "any cost")


def budgets(table: pd.DataFrame) -> list[Budget]:
    """Any cost; the NFE of every row except the largest; round milliseconds between the fastest and the slowest."""
    counted = table[(table["source"] == COUNTED) & table["acr"].notna()]
    nfe = sorted({math.ceil(v - 1e-9) for v in counted["nfe"].dropna()})
    ms = counted.loc[(counted["nfe"] > 0) & (counted["ms_purify"] > 0), "ms_purify"]
    return [
        ANY,
        *(Budget("Network evaluations", f"at most {v} NFE", {"max_nfe": v}) for v in thinned(nfe[:-1])),
        *(Budget("Time per purification", f"at most {v:g} ms", {"max_ms": v}) for v in thinned(round_between(ms))),
    ]


def round_between(values: pd.Series) -> list[float]:
    """1, 2 and 5 times powers of ten: at least the smallest value, and below the largest."""
    if values.empty:
        return []
    low, high = float(values.min()), float(values.max())
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return [v for k in powers for v in (float(f"{step}e{k}") for step in (1, 2, 5)) if low <= v < high]


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most `MOST_BUDGETS` of the values, evenly spaced, with the first and the last."""
    if len(values) <= MOST_BUDGETS:
        return list(values)
    return [values[round(i * (len(values) - 1) / (MOST_BUDGETS - 1))] for i in range(MOST_BUDGETS)]


def decisions(summary: Summary) -> tuple[list[Budget], list[list[int]], list[dict[str, Any]]]:
    """The budgets; the index of an answer by radius and budget; and the different answers."""
    offered = budgets(summary.table)
    answers: list[dict[str, Any]] = []
    choices = []
    for radius in summary.radii:
        of_radius = [answer(recommend(summary, radius, **budget.limit)) for budget in offered]
        answers += [one for one in of_radius if one not in answers]
        choices.append([answers.index(one) for one in of_radius])
    return offered, choices, answers


def answer(advice: Recommendation) -> dict[str, Any]:
    """A recommendation as the page shows it."""
    by_name: dict[str, list[Standing]] = {}
    for standing in advice.standings if advice.chosen else ():
        by_name.setdefault(standing.name, []).append(standing)
    return {
        "radius": f"{advice.radius:g}",
        "verdict": advice.verdict,
        "notes": list(advice.notes),
        "sure": advice.clear,
        "chosen": option(advice.chosen) if advice.chosen else None,
        "runner_up": option(advice.runner_up) if advice.runner_up else None,
        "probability": None if advice.probability is None else percent(advice.probability, 0),
        "share": advice.probability,
        "candidates": [candidate(standings) for standings in list(by_name.values())[:MOST_CANDIDATES]],
        "of": len(by_name),
    }


def option(o: Option) -> dict[str, Any]:
    """A purifier at a sigma, with its certified accuracy and its costs."""
    return {
        "name": o.name,
        "sigma": f"{o.sigma:g}",
        "accuracy": percent(o.accuracy),
        "interval": percent_interval(o.low, o.high),
        "value": o.accuracy,
        "low": o.low,
        "high": o.high,
        "nfe": short(o.nfe),
        "ms": short(o.ms),
        "images": f"{o.images:,}",
    }


def candidate(standings: Sequence[Standing]) -> dict[str, Any]:
    """A line of the table of candidates: a purifier at its best sigma, and its probability to be the best at any.

    Parameters:
        standings: of one purifier at all sigmas, the best first.
    """
    standing, behind = standings[0], standings[0].behind
    best = [s.best for s in standings if s.best is not None]
    return {
        **option(standing.option),
        "behind": None if behind is None else f"{100 * behind.effect:.1f} {percent_interval(behind.low, behind.high)}",
        "p": None if standing.p is None else p_text(standing.p),
        "alike": standing.p is not None and standing.p > 1 - CONFIDENCE,
        "best": percent(math.fsum(best), 0) if best else None,
        "on_front": None if standing.on_front is None else percent(standing.on_front, 0),
    }
