"""The recommendations of the page, computed beforehand for every radius and budget that it offers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from bench.analysis import Recommendation, recommend
from bench.analysis.standings import Standing
from bench.records import COUNTED
from bench.summary import Summary

_MOST_BUDGETS = 8  # of each kind


@dataclass(frozen=True)
class _Budget:
    """The highest allowed cost of a purified image: a keyword of `recommend`, or none for any cost."""

    kind: str
    words: str
    limit: dict[str, float] = field(default_factory=dict)


def budgets(table: pd.DataFrame) -> list[_Budget]:
    """Any cost; the NFE of every row except the largest; of other costs round ones between the least and the most."""
    counted = table[(table["source"] == COUNTED) & table["acr"].notna()]
    nfe = sorted({math.ceil(v - 1e-9) for v in counted["nfe"].dropna()})
    offered = [
        _Budget("", "any cost"),
        *(_Budget("Network evaluations", f"at most {v} NFE", {"max_nfe": v}) for v in _thinned(nfe[:-1])),
    ]
    for kind, column, unit, limit in _OTHERS:
        costs = counted.loc[(counted["nfe"] > 0) & (counted[column] > 0), column]
        offered += [_Budget(kind, f"at most {v:g} {unit}", {limit: v}) for v in _thinned(_round_between(costs))]
    return offered


_OTHERS = (  # the kind of a budget, column of the summary, unit, keyword of `recommend`
    ("Time per purification", "ms_purify", "ms", "max_ms"),
    ("Operations per vote, with the classifier", "gflops", "GFLOPs", "max_gflops"),
    ("Time per vote, with the classifier", "ms_joint", "ms per vote", "max_joint_ms"),
)


def _round_between(values: pd.Series) -> list[float]:
    """1, 2 and 5 times powers of ten: at least the smallest value, and below the largest."""
    if values.empty:
        return []
    low, high = float(values.min()), float(values.max())
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
    return [v for k in powers for v in (float(f"{step}e{k}") for step in (1, 2, 5)) if low <= v < high]


def _thinned(values: Sequence[Any]) -> list[Any]:
    """At most `_MOST_BUDGETS` of the values, evenly spaced, with the first and the last."""
    if len(values) <= _MOST_BUDGETS:
        return list(values)
    return [values[round(i * (len(values) - 1) / (_MOST_BUDGETS - 1))] for i in range(_MOST_BUDGETS)]


def decisions(
    summary: Summary, offered: Sequence[_Budget], rendered: Callable[[Recommendation], str]
) -> tuple[list[list[int]], dict[str, Recommendation]]:
    """The index of an answer by radius and budget; and the different answers by their `rendered` text."""
    answers: dict[str, Recommendation] = {}
    choices = []
    for radius in summary.radii:
        advices = [recommend(summary, radius, **budget.limit) for budget in offered]
        texts = [rendered(advice) for advice in advices]
        for text, advice in zip(texts, advices, strict=True):
            answers.setdefault(text, advice)
        choices.append([list(answers).index(text) for text in texts])
    return choices, answers


def candidates(advice: Recommendation) -> list[Standing]:
    """Each purifier at its best sigma, with its share of resamples at any sigma; none without a choice."""
    by_name: dict[str, list[Standing]] = {}
    for standing in advice.standings if advice.chosen else ():
        by_name.setdefault(standing.name, []).append(standing)
    shares = {name: [s.best for s in own if s.best is not None] for name, own in by_name.items()}
    return [replace(own[0], best=math.fsum(shares[name]) if shares[name] else None) for name, own in by_name.items()]
