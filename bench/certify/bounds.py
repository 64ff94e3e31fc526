"""Confidence bounds of a binomial probability, and the certified radius that follows from a lower bound."""

from __future__ import annotations

import math
from functools import lru_cache

# Functions import scipy themselves: it takes half a second, and commands that refuse their input need none of it.


@lru_cache(maxsize=65536)
def clopper_pearson_lower(hits: int, draws: int, alpha: float) -> float:
    """One-sided lower confidence bound of a binomial probability at level `1 - alpha` (Clopper, Pearson 1934).

    Equal to `scipy.stats.beta.ppf(alpha, hits, draws - hits + 1)`; 0 without hits. Raises ValueError unless
    `0 <= hits <= draws`.
    """
    _check_counts(hits, draws)
    from scipy.special import betaincinv

    return float(betaincinv(hits, draws - hits + 1, alpha)) if hits else 0.0


def clopper_pearson_upper(hits: int, draws: int, alpha: float) -> float:
    """One-sided upper confidence bound at level `1 - alpha` (Clopper, Pearson 1934); 1 if every draw hits."""
    return 1.0 - clopper_pearson_lower(draws - hits, draws, alpha)


def randomised_lower(hits: int, draws: int, alpha: float, uniform: float) -> float:
    """Randomised Clopper-Pearson lower bound (Stevens 1950), which exceeds p with probability alpha exactly.

    The solution p of `P(X > hits) + uniform P(X = hits) = alpha`: equal to the bound of Clopper and Pearson at
    `uniform` = 1, and higher below. If all draws hit and `uniform <= alpha`, the exact bound is 1; it is cut at the
    bound of `draws + 1` hits in `draws + 1` draws, so that radii stay finite.

    Parameters:
        uniform: in [0, 1), drawn once and independently of the counts.
    """
    _check_counts(hits, draws)
    from scipy.optimize import brentq
    from scipy.special import betainc

    def excess(p: float) -> float:
        """P(X > hits) + uniform P(X = hits) - alpha."""
        more = betainc(hits + 1, draws - hits, p) if hits < draws else 0.0
        as_many = betainc(hits, draws - hits + 1, p) if hits else 1.0
        return float((1 - uniform) * more + uniform * as_many - alpha)

    low = clopper_pearson_lower(hits, draws, alpha)
    high = clopper_pearson_lower(hits + 1, draws if hits < draws else draws + 1, alpha)
    if excess(low) >= 0:
        return low  # at uniform = 1, or without hits if no p solves the equation
    return high if excess(high) <= 0 else float(brentq(excess, low, high, xtol=1e-15))


@lru_cache(maxsize=65536)
def anytime_lower(hits: int, draws: int, alpha: float) -> float:
    """Lower bound of p that is valid at all numbers of draws simultaneously, with probability `1 - alpha`; 0 if <= 1/2.

    The largest `t >= 1/2` at which the mixture `int_t^1 (p/t)^hits ((1-p)/(1-t))^(draws-hits) dw(p)` reaches
    `1/alpha`, with w Jeffreys' prior restricted to (1/2, 1) (the mixture method, Robbins 1970). Under any `p <= t` the
    mixture is a nonnegative supermartingale that starts at 1 or less, so it ever reaches `1/alpha` with probability
    at most alpha (Ville 1939). It decreases in t, so the claim for the largest t includes those for all smaller ones.
    """
    return _mixture_lower(hits, draws, alpha, own_prior=False)


@lru_cache(maxsize=65536)
def e_process_lower(hits: int, draws: int, alpha: float) -> float:
    """`anytime_lower` with Jeffreys' prior restricted to (t, 1), one for each t: at least as high.

    The mixture E then starts at 1 for every t, instead of at the share of (1/2, 1) beyond t. It decreases in t wherever
    it reaches `1/alpha`: with W the mass of w beyond t, `(log E)' = (w/W) (1 - 1/E) - (hits - draws t) / (t (1-t))`,
    and `w/W <= 1 / (2 sqrt(t) (1-t))`, so it decreases where `hits - draws t >= 1/2`; where that fails, no likelihood
    ratio exceeds e. For alpha above 0.36, where that is no proof, the bound is that of `anytime_lower`.
    """
    return _mixture_lower(hits, draws, alpha, own_prior=alpha <= 0.36)


def _mixture_lower(hits: int, draws: int, alpha: float, own_prior: bool) -> float:
    _check_counts(hits, draws)
    from scipy.optimize import brentq
    from scipy.special import betaincc, betaln, xlog1py

    misses = draws - hits
    whole = betaln(hits + 0.5, misses + 0.5) - betaln(0.5, 0.5)

    def evidence(t: float) -> float:
        """Logarithm of alpha times the mixture at t; t is proved if it is not negative."""
        beyond = float(betaincc(hits + 0.5, misses + 0.5, t))
        prior = float(betaincc(0.5, 0.5, t if own_prior else 0.5))
        against = hits * math.log(t) + float(xlog1py(misses, -t))
        return whole - math.log(prior) + math.log(max(beyond, 1e-300)) - against + math.log(alpha)

    share = hits / draws if draws else 0.0
    if share <= 0.5 or evidence(0.5) < 0:
        return 0.0
    # Above the share of hits no t can be proved, because the likelihood decreases there.
    return float(brentq(evidence, 0.5, min(share, 1 - 1e-16), xtol=1e-15))


@lru_cache(maxsize=2**16)
def certified_radius(p_lower: float, sigma: float) -> float:
    """`sigma Phi^-1(p_lower)`, in full precision (Cohen et al. 2019, Theorem 1); 0 if `p_lower <= 1/2`."""
    from scipy.special import ndtri

    return sigma * float(ndtri(p_lower)) if p_lower > 0.5 else 0.0


def largest_radius(draws: int, alpha: float, sigma: float) -> float:
    """The largest radius that Cohen's rule can certify with this many draws: every draw hits."""
    return certified_radius(clopper_pearson_lower(draws, draws, alpha), sigma)


def _check_counts(hits: int, draws: int) -> None:
    if not 0 <= hits <= draws:
        raise ValueError(f"hits must lie between 0 and draws, got {hits} of {draws}")
