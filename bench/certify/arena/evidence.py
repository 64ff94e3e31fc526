"""Evidence that pA exceeds a threshold: the e-processes and confidence sequences of the field, vectorised.

Each rule is a function of (threshold, hits, draws) whose value must reach a level. All of them are anytime-valid: under
`pA <= t` the level is ever reached, at whatever number of draws, with probability at most alpha.

- `UNION`: a Clopper-Pearson bound at each of geometrically growing numbers of draws, alpha shared among all of them
  (Voracek, NeurIPS 2024; `get_upper_threshold_ub` of github.com/vvoracek/RS_conf_seq, thresholds.py).
- `BETTING`: the wealth of a gambler who bets on the next draw by the estimator of Krichevsky and Trofimov, which equals
  the likelihood ratio mixed over Jeffreys' prior on (0, 1) (the same paper; `get_upper_threshold`).
- `MIXTURE`: the likelihood ratio mixed over a Beta prior on (t, 1), one for each tested t (Robbins 1970; Ville 1939).
  The prior must not depend on the estimation draws; it may depend on other images and on the selection draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, betaincc, betaln, ndtr, ndtri, xlog1py, xlogy

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_EPOCH, _FIRST = 1.1, 11  # growth of the union bound's epochs, and the exponent of the first, as in RS_conf_seq
_UNDERFLOW = 1e-290  # smaller masses of a Beta distribution are not evaluated: they count as no evidence
_LARGEST_Z = 6.0  # of a bound, in standard deviations of the noise


@dataclass(frozen=True)
class Evidence:
    """A rule that proves `pA > t` when its evidence reaches a level.

    Attributes:
        against: log evidence against `pA <= t`, from (t, hits, draws, a, b), arrays that broadcast. Defined for
            `hits >= t draws`, below which nothing is proved.
        level: the level for (draws, alpha).
        a, b: the Beta prior, for rules that have one.
    """

    against: Callable[..., Floats]
    level: Callable[[Ints, float], Floats]
    a: float = 0.5
    b: float = 0.5


def union_epochs(horizon: int) -> Ints:
    """Numbers of draws `[K]` at which the union bound looks: the first integers above powers of 1.1, each once."""
    epochs, k = [], _FIRST
    for n in range(1, horizon):
        if n > _EPOCH**k:
            k += 1
            epochs.append(n)
    return np.array(epochs)


def _union_level(draws: Ints, alpha: float) -> Floats:
    """Minus the log of the alpha spent at each epoch, `5 alpha / ((k + 4) (k + 5))` at the k-th; infinite elsewhere."""
    epochs = union_epochs(int(np.max(draws)) + _FIRST)
    index = np.searchsorted(epochs, draws)
    k = index + 1.0
    is_epoch = epochs[np.minimum(index, len(epochs) - 1)] == draws
    return np.where(is_epoch, -np.log(5 * alpha / ((k + 4) * (k + 5))), np.inf)


def _tail(t: Floats, hits: Ints, draws: Ints, a: Floats, b: Floats) -> Floats:
    """Minus the log of the p-value `P(X >= hits)` under `pA = t`, so that the bound is that of Clopper and Pearson."""
    with np.errstate(divide="ignore"):
        return -np.log(np.where(hits > 0, betainc(np.maximum(hits, 1), draws - hits + 1.0, t), 1.0))


def _log_ratio(t: Floats, hits: Ints, draws: Ints, a: Floats, b: Floats) -> Floats:
    """Log of the likelihood ratio against `pA = t`, mixed over Beta(a, b) on (0, 1)."""
    mixed = betaln(hits + a, draws - hits + b) - betaln(a, b)
    return np.asarray(mixed - xlogy(hits, t) - xlog1py(draws - hits, -t))


def _log_ratio_beyond(t: Floats, hits: Ints, draws: Ints, a: Floats, b: Floats) -> Floats:
    """Log of the likelihood ratio against `pA <= t`, mixed over Beta(a, b) restricted to (t, 1)."""
    prior, posterior = betaincc(a, b, t), betaincc(hits + a, draws - hits + b, t)
    sure = (prior > _UNDERFLOW) & (posterior > _UNDERFLOW)
    shares = np.log(np.where(sure, posterior, 1.0)) - np.log(np.where(sure, prior, 1.0))
    return np.where(sure, _log_ratio(t, hits, draws, a, b) + shares, -np.inf)


def _one_over_alpha(draws: Ints, alpha: float) -> Floats:
    return np.full(np.shape(draws), -math.log(alpha))


def _one_over_two_alpha(draws: Ints, alpha: float) -> Floats:
    """As in RS_conf_seq: the wealth covers both sides, and 1 / (2 alpha) leaves about alpha to each."""
    return np.full(np.shape(draws), -math.log(2 * alpha))


UNION = Evidence(_tail, _union_level)
BETTING = Evidence(_log_ratio, _one_over_two_alpha)
MIXTURE = Evidence(_log_ratio_beyond, _one_over_alpha)


def fewest_hits(rule: Evidence, t: Floats, looks: Ints, alpha: float, a: Floats, b: Floats) -> Ints:
    """The fewest hits `[...,J,K]` at each look that prove `pA > t_j`; `looks + 1` if none do.

    A path that has enough hits for a later look already can only prove t, so boundaries are lowered to those of later
    looks (RS_conf_seq does the same). A running maximum over thresholds makes them increase with t: one claim then
    includes those for all smaller thresholds, and all of them share alpha.

    Parameters:
        t: `[J]`, increasing.
        looks: `[K]`, cumulative draws.
        a, b: priors `[...]`.
    """
    prior = np.asarray(a, dtype=float)[..., None, None], np.asarray(b, dtype=float)[..., None, None]
    level = rule.level(looks, alpha)
    t_, n = t[:, None], looks
    low = np.broadcast_to(np.ceil(t_ * n).astype(np.int64) - 1, (*np.shape(a), len(t), len(n))).copy()
    high = np.broadcast_to(n + 1, low.shape).copy()
    while (high - low > 1).any():  # low does not prove t; high does, or is n + 1
        middle = (low + high) // 2
        enough = rule.against(t_, middle, n, *prior) >= level
        high, low = np.where(enough, middle, high), np.where(enough, low, middle)
    curtailed = np.minimum.accumulate(high[..., ::-1], axis=-1)[..., ::-1]
    return np.maximum.accumulate(np.minimum(curtailed, looks + 1), axis=-2)


def lower_bound(rule: Evidence, hits: Ints, draws: Ints, alpha: float, a: Floats, b: Floats) -> Floats:
    """`Phi^-1` of the largest t that is proved, `[...]`, to within 1e-4 and never above; 0 if none of at least 1/2 is.

    Parameters:
        hits, draws, a, b: `[...]`.
    """
    level = rule.level(draws, alpha)
    low, high = np.zeros(hits.shape), np.clip(ndtri(hits / draws), 0, _LARGEST_Z)
    for _ in range(16):
        middle = (low + high) / 2
        proves = rule.against(ndtr(middle), hits, draws, a, b) >= level
        low, high = np.where(proves, middle, low), np.where(proves, high, middle)
    return low
