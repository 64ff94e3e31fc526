"""Pareto fronts of costs and values: their options, how sure they are, and the area that they cover. Pure.

Values are arrays `[images, options]`; a front compares the means of their columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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


NFE_SCALE = "log10(1 + NFE), NFE from 0 to 99"  # of the costs under a hypervolume


def hypervolume(nfe: Sequence[float], values: np.ndarray) -> np.ndarray:
    """Area between the front and the reference point (99, 0), per unit of the length of `NFE_SCALE`.

    That is, the best value that a budget buys, averaged over budgets that are uniform on the scale.

    Parameters:
        nfe: `[options]`; options with 99 or more, or without a finite cost, are left out.
        values: `[..., options]`, at least 0; several sets of them (resamples) at once.

    Returns:
        `[...]`.
    """
    position = np.log10(1.0 + np.asarray(nfe, float)) / 2.0
    kept = np.flatnonzero(position < 1)  # not NaN either
    order = kept[np.argsort(position[kept], kind="stable")]
    values = np.asarray(values, float)
    if not len(order):
        return np.zeros(values.shape[:-1])
    bought = np.maximum.accumulate(np.maximum(values[..., order], 0.0), axis=-1)
    return bought @ np.diff(np.append(position[order], 1.0))
