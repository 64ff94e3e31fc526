"""Confidence bounds of a binomial probability, and the radius that one proves. Pure mathematics of counts."""

from __future__ import annotations

import math
from functools import lru_cache

# scipy takes half a second to import, which a refusal need not wait for: the functions import what they use.


@lru_cache(maxsize=65536)
def clopper_pearson_lower(hits: int, draws: int, alpha: float) -> float:
    """One-sided lower confidence bound of a binomial probability at level `1 - alpha` (Clopper, Pearson 1934).

    Equal to `scipy.stats.beta.ppf(alpha, hits, draws - hits + 1)`; 0 where there are no hits.
    """
    refuse_counts(hits, draws)
    from scipy.special import betaincinv

    return float(betaincinv(hits, draws - hits + 1, alpha)) if hits else 0.0


def clopper_pearson_upper(hits: int, draws: int, alpha: float) -> float:
    """One-sided upper bound at level `1 - alpha`, likewise; 1 where every draw hits."""
    return 1.0 - clopper_pearson_lower(draws - hits, draws, alpha)


def randomised_lower(hits: int, draws: int, alpha: float, uniform: float) -> float:
    """Randomised Clopper-Pearson lower bound (Stevens 1950): too high with probability alpha exactly, at any p.

    The p that solves `P(X > hits) + uniform P(X = hits) = alpha`; the bound of Clopper and Pearson where `uniform` is
    1, higher where it is less. Exactness asks for a bound of 1 where all draws hit and `uniform <= alpha`; it is cut
    at what `draws + 1` hits in as many draws would prove, so that radii stay finite.

    Parameters:
        uniform: in [0, 1), drawn independently of the counts, once.
    """
    refuse_counts(hits, draws)
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
        return low  # at uniform = 1, and where no p is improbable enough: without hits and with a large uniform
    return high if excess(high) <= 0 else float(brentq(excess, low, high, xtol=1e-15))


@lru_cache(maxsize=65536)
def anytime_lower(hits: int, draws: int, alpha: float) -> float:
    """Lower bound that holds at all numbers of draws together, with probability `1 - alpha`; 0 up to one half.

    The largest `t >= 1/2` at which the mixture `int_t^1 (p/t)^hits ((1-p)/(1-t))^(draws-hits) dw(p)` reaches
    `1/alpha`, w being Jeffreys' prior on (1/2, 1). Under any `p <= t` the mixture is a nonnegative supermartingale that
    begins at 1 or less, so it ever reaches `1/alpha` with probability alpha at most (Ville 1939; Robbins 1970). It
    falls in t, so the largest t stands for all smaller ones: one claim, one alpha.
    """
    refuse_counts(hits, draws)
    from scipy.optimize import brentq
    from scipy.special import betaincc, betaln, xlog1py

    misses = draws - hits
    whole = betaln(hits + 0.5, misses + 0.5) - betaln(0.5, 0.5) + math.log(2)

    def evidence(t: float) -> float:
        """Logarithm of the mixture times alpha; claims hold where it is not negative."""
        beyond = float(betaincc(hits + 0.5, misses + 0.5, t))
        against = hits * math.log(t) + float(xlog1py(misses, -t))
        return whole + math.log(max(beyond, 1e-300)) - against + math.log(alpha)

    share = hits / draws if draws else 0.0
    if share <= 0.5 or evidence(0.5) < 0:
        return 0.0  # beyond the share of hits no t can be proved: the likelihood only falls
    return float(brentq(evidence, 0.5, min(share, 1 - 1e-16), xtol=1e-15))


@lru_cache(maxsize=2**16)
def certified_radius(p_lower: float, sigma: float) -> float:
    """`sigma Phi^-1(p_lower)`, in full precision (Cohen et al. 2019, Theorem 1); 0 where `p_lower <= 1/2`."""
    from scipy.special import ndtri

    return sigma * float(ndtri(p_lower)) if p_lower > 0.5 else 0.0


def largest_radius(draws: int, alpha: float, sigma: float) -> float:
    """The radius when every draw hits, by Cohen's rule: no certificate of this many draws reaches further."""
    return certified_radius(clopper_pearson_lower(draws, draws, alpha), sigma)


def refuse_counts(hits: int, draws: int) -> None:
    if not 0 <= hits <= draws:
        raise ValueError(f"hits must lie between 0 and draws, got {hits} of {draws}")
