"""Every decision that the page can be asked for, made beforehand: by radius and budget a recommendation in words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.analysis.recommendation import Recommendation, Standing, recommend
from bench.report.words import interval, percent, short
from bench.summary.statistics import CONFIDENCE
from bench.summary.summary import COUNTED, Summary

MOST_BUDGETS = 8  # of each kind
MOST_CANDIDATES = 12


@dataclass(frozen=True)
class Budget:
    """What a purified image may cost, at most: a limit as `recommend` takes it, none for any cost."""

    kind: str
    words: str
    limit: dict[str, float] = field(default_factory=dict)


ANY = Budget("", "any cost")


def budgets(table: pd.DataFrame) -> list[Budget]:
    """Any cost; every NFE that a row has, but the largest; round milliseconds between the fastest and the slowest."""
    counted = table[(table["source"] == COUNTED) & (table["images"] > 0)] if len(table) else table
    if counted.empty:
        return [ANY]
    nfe = sorted({math.ceil(v - 1e-9) for v in counted["nfe"].dropna()})
    ms = counted.loc[(counted["nfe"] > 0) & (counted["ms_purify"] > 0), "ms_purify"]
    return [
        ANY,
        *(Budget("Network evaluations", f"at most {v} NFE", {"max_nfe": v}) for v in thinned(nfe[:-1])),
        *(Budget("Time per purification", f"at most {v:g} ms", {"max_ms": v}) for v in thinned(round_between(ms))),
    ]


def round_between(values: pd.Series) -> list[float]:
    """1, 2 and 5 times powers of ten, from the first that lets the smallest value in to the last that leaves the
    largest out."""
    if values.empty:
        return []
    low, high = float(values.min()), float(values.max())
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return [v for k in powers for v in (float(f"{step}e{k}") for step in (1, 2, 5)) if low <= v < high]


def thinned(values: Sequence[Any]) -> list[Any]:
    """At most `MOST_BUDGETS` of them, evenly taken."""
    if len(values) <= MOST_BUDGETS:
        return list(values)
    return [values[round(i * (len(values) - 1) / (MOST_BUDGETS - 1))] for i in range(MOST_BUDGETS)]


def decisions(summary: Summary) -> tuple[list[Budget], list[list[int]], list[dict[str, Any]]]:
    """The budgets; by radius and budget the number of an answer; and the answers, each once."""
    given = budgets(summary.table)
    answers: list[dict[str, Any]] = []
    chosen = []
    for radius in summary.radii:
        found = [answer(recommend(summary, radius, **budget.limit)) for budget in given]
        answers += [one for one in found if one not in answers]
        chosen.append([answers.index(one) for one in found])
    return given, chosen, answers


def answer(found: Recommendation) -> dict[str, Any]:
    """A recommendation as the page shows it."""
    first = found.standings[0] if found.chosen else None
    named: dict[str, list[Standing]] = {}
    for standing in found.standings if found.chosen else ():
        named.setdefault(standing.name, []).append(standing)
    second = next((s for s in found.standings if s.option == found.runner_up), None) if found.runner_up else None
    return {
        "radius": f"{found.radius:g}",
        "verdict": found.verdict,
        "notes": list(found.notes),
        "sure": found.clear,
        "chosen": option(first) if first else None,
        "runner_up": option(second) if second else None,
        "probability": None if found.probability is None else percent(found.probability, 0),
        "share": found.probability,
        "more": None if found.more_images is None else f"{found.more_images:,}",
        "candidates": [candidate(kin) for kin in list(named.values())[:MOST_CANDIDATES]],
        "of": len(named),
    }


def option(standing: Standing) -> dict[str, Any]:
    """A purifier at a sigma, with what it certifies and costs."""
    o = standing.option
    return {
        "name": standing.name,
        "label": o.label,
        "sigma": f"{o.sigma:g}",
        "accuracy": percent(o.accuracy),
        "interval": interval(o.low, o.high),
        "value": o.accuracy,
        "low": o.low,
        "high": o.high,
        "nfe": short(o.nfe),
        "ms": short(o.ms),
        "images": f"{o.images:,}",
    }


def candidate(kin: Sequence[Standing]) -> dict[str, Any]:
    """A line of the table of candidates: a purifier at its best sigma, and how often it is the best at any."""
    standing, behind = kin[0], kin[0].behind
    best = [s.best for s in kin if s.best is not None]
    return {
        **option(standing),
        "behind": None if behind is None else f"{100 * behind.effect:.1f} {interval(behind.low, behind.high)}",
        "p": None if standing.p is None else "< 0.001" if standing.p < 0.001 else f"{standing.p:.2g}",
        "alike": standing.p is not None and standing.p > 1 - CONFIDENCE,
        "best": percent(math.fsum(best), 0) if best else None,
        "on_front": None if standing.on_front is None else percent(standing.on_front, 0),
    }
