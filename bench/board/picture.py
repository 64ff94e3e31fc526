"""Accuracy against cost of a ranking, as the numbers of a small SVG picture. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bench.board.ranking import Ranking
from bench.report.figures import short
from bench.summary.format import percent, percent_interval
from bench.summary.headline import COSTS

WIDTH, HEIGHT = 460, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 12, 42
_TICKS = (0, 0.001, 0.01, 0.1, 1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000, 100_000)
_APART = 26  # pixels between two ticks
_MARK = 9.0  # pixels between two marks of equal cost


def picture(ranking: Ranking) -> dict[str, Any] | None:
    """Marks, ticks and the line of the budget; None if nothing is certified or no cost is known.

    Costs are shown on a logarithmic scale, NFE on that of `1 + NFE`, so that plain smoothing has a place.
    """
    cost = ranking.budget.cost
    priced = [e for e in (*ranking.tied, *ranking.lower) if math.isfinite(e.option.cost(cost))]
    if not priced or ranking.advice.chosen is None:
        return None
    costs = [entry.option.cost(cost) for entry in priced]
    across, ticks = _across(costs, zero=cost == "nfe")
    top = min(1.0, 0.1 * math.ceil(10 * max(entry.option.high for entry in priced)))
    places = _spread([across(price) for price in costs])
    marks = [
        {
            "x": x,
            **{end: _up(getattr(entry.option, end), top) for end in ("accuracy", "low", "high")},
            "family": entry.family,
            "tied": entry.tied,
            "leads": entry.option == ranking.advice.chosen,
            "words": f"{entry.option.name} at σ = {entry.option.sigma:g}: {percent(entry.option.accuracy)} "
            f"{percent_interval(entry.option.low, entry.option.high)}, {short(entry.option.cost(cost))} "
            f"{COSTS[cost].head}",
        }
        for entry, x in zip(priced, places, strict=True)
    ]
    steps = [i * top / 5 for i in range(6)]
    return {
        **{"width": WIDTH, "height": HEIGHT, "left": _LEFT, "right": WIDTH - _RIGHT, "floor": HEIGHT - _BOTTOM},
        **{"marks": marks, "ticks": ticks, "axis": COSTS[cost].axis, "top": top},
        "levels": [{"y": _up(step, top), "words": f"{100 * step:.3g}"} for step in steps],
    }


def _spread(places: Sequence[float]) -> list[float]:
    """The same places, with equal ones side by side, the first of them leftmost."""
    spread = []
    for i, x in enumerate(places):
        equal = [j for j, other in enumerate(places) if abs(other - x) < 1]
        step = min(_MARK, 60 / len(equal))
        spread.append(round(x + (equal.index(i) - (len(equal) - 1) / 2) * step, 1))
    return spread


def _up(share: float, top: float) -> float:
    """The height of a share: y of the picture, downwards."""
    return round(HEIGHT - _BOTTOM - share / top * (HEIGHT - _BOTTOM - _TOP), 1)


def _across(costs: Sequence[float], zero: bool) -> tuple[Callable[[float], float], list[dict[str, Any]]]:
    """The x of a cost, and the ticks of the axis.

    Parameters:
        zero: a cost may be 0.
    """
    scale = (lambda cost: math.log10(1 + cost)) if zero else (lambda cost: math.log10(max(cost, 1e-9)))
    low, high = scale(min(costs)), scale(max(costs))
    margin = max(0.08 * (high - low), 0.15 if low == high else 0.02)
    low, high = low - margin, high + margin

    def across(cost: float) -> float:
        return round(_LEFT + (scale(cost) - low) / (high - low) * (WIDTH - _LEFT - _RIGHT), 1)

    least = min((cost for cost in costs if cost > 0), default=1)  # nothing lies between 0 and this
    values = (
        [t for t in _TICKS if t == 0 or t >= min(1, least)]
        if zero
        else sorted({float(f"{step}e{power}") for power in range(-6, 7) for step in (1, 2, 5)})
    )
    ticks: list[dict[str, Any]] = []
    for value in values:
        if low <= scale(value) <= high and (not ticks or across(value) - ticks[-1]["x"] >= _APART):
            ticks.append({"x": across(value), "words": f"{value:g}"})
    return across, ticks
