"""Pareto fronts of costs and values: their options, how sure they are, and the area that they cover. Pure.

Values are arrays `[images, options]`; a front compares the means of their columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


def best_shares(means: np.ndarray) -> np.ndarray:
    """By option, the share of resamples in which it is the highest; options that tie share one.

    Parameters:
        means: `[resamples, options]`.
    """
    highest = means >= means.max(axis=1, keepdims=True) - 1e-12  # sums in another order differ in the last bits
    return (highest / highest.sum(axis=1, keepdims=True)).mean(axis=0)


def front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the Pareto front, cheapest first: nothing that costs as much or less has a higher value."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i]))
    best, kept = -math.inf, []
    for i in order:
        if math.isfinite(costs[i]) and values[i] > best:
            kept.append(i)
            best = values[i]
    return kept


def front_shares(costs: Sequence[float], means: np.ndarray) -> np.ndarray:
    """By option, the share of resamples in which it lies on the front: none as cheap is better, none cheaper as good.

    Costs are exact: an NFE has no error, and the spread of milliseconds is not considered.

    Parameters:
        costs: `[options]`; an option without a finite cost is never on the front.
        means: `[resamples, options]`.
    """
    cost = np.asarray(costs, float)
    share = np.zeros(len(cost))
    beaten = np.full(len(means), -np.inf)  # the best of the cheaper options
    for level in np.unique(cost[np.isfinite(cost)]):
        equal = cost == level
        best = means[:, equal].max(axis=1)
        share[equal] = ((means[:, equal] >= best[:, None] - 1e-12) & (best > beaten + 1e-12)[:, None]).mean(axis=0)
        beaten = np.maximum(beaten, best)
    return share


class _CostScale(NamedTuple):
    """The axis of costs under a hypervolume: logarithmic from `low` to `high`, `offset` added first.

    The reference point is (`high`, 0). Lower costs count as `low`; options with higher costs are left out.
    """

    words: str
    low: float
    high: float
    offset: float

    def position(self, costs: Sequence[float]) -> np.ndarray:
        """Costs on the scale: 0 at `low`, 1 at `high`; NaN stays NaN."""
        with np.errstate(divide="ignore"):
            ends = np.log10([self.low + self.offset, self.high + self.offset])
            at = np.log10(np.asarray(costs, float) + self.offset)
        return np.maximum((at - ends[0]) / (ends[1] - ends[0]), 0.0)


SCALES = {
    "nfe": _CostScale("log10(1 + NFE), NFE from 0 to 99", 0.0, 99.0, 1.0),
    "ms_purify": _CostScale("log10(ms), from 0.01 to 1,000 ms", 0.01, 1000.0, 0.0),
}


def hypervolume(costs: Sequence[float], values: np.ndarray, scale: _CostScale) -> np.ndarray:
    """Area between the front and the reference point (`scale.high`, 0), per unit of the scale's length.

    That is, the best value that a budget buys, averaged over budgets that are uniform on the scale.

    Parameters:
        costs: `[options]`; options without a finite cost are left out.
        values: `[..., options]`, at least 0; several sets of them (resamples) at once.

    Returns:
        `[...]`.
    """
    position = scale.position(costs)
    kept = np.flatnonzero(position < 1)  # not NaN either
    order = kept[np.argsort(position[kept], kind="stable")]
    values = np.asarray(values, float)
    if not len(order):
        return np.zeros(values.shape[:-1])
    bought = np.maximum.accumulate(np.maximum(values[..., order], 0.0), axis=-1)
    return bought @ np.diff(np.append(position[order], 1.0))
