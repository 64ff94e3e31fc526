"""Anytime-valid evidence about a mean difference over a finite set of images, drawn in random order. Pure mathematics.

The test by betting of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS-B 2024),
in its version for sampling without replacement (section 5), with the mixture of bets that they call diversified Kelly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]

# Shares of the wealth that are bet. Of p images won and m lost, the best share is (p - m) / (p + m).
_BETS = (0.05, 0.15, 0.35, 0.6, 0.8, 0.95)
_ROUNDING = 1e-9  # of sums of halves: these are exact, and a null hypothesis of 0.02 images is not


def log_evidence(differences: _Floats, population: int, null: float) -> _Floats:
    """The logarithm of the highest wealth so far against "the mean difference over all images is at most `null`".

    If that is true, the wealth ever reaches `1 / level` with probability at most `level`, whenever one looks.

    **Proof.** Let `y = (difference + 1) / 2`, in [0, 1]. Under the hypothesis, the images that are still to come have a
    mean of at most `c_t = (population (1 + null) / 2 - y_1 - ... - y_(t-1)) / (population - t + 1)`, which is known
    before image t, and image t is a uniformly random one of them. So `1 - b + b y_t / c_t` has an expectation of at
    most 1 for any bet b in [0, 1], and the wealth, the product of these factors, is a nonnegative supermartingale that
    starts at 1; so is the mean over several bets. Ville's inequality (1939) gives the claim. If the sum of y exceeds
    `population (1 + null) / 2`, the hypothesis is false with certainty, and the wealth is infinite.

    **Unknown differences** may be replaced by lower bounds, which may improve as one looks again: every factor
    increases with y_t and with all earlier y, so the wealth of the bounds is at most that of the truth.

    Parameters:
        differences: `[..., T]` in [-1, 1], of the first T images of the random order, or lower bounds of them.
        population: number of all images.
        null: the mean difference that the hypothesis allows at most, in (-1, 1).

    Returns:
        `[...]`; infinite where the hypothesis is impossible.
    """
    y = (differences + 1) / 2
    total = population * (1 + null) / 2
    summed = np.cumsum(y, axis=-1)
    left = population - np.arange(y.shape[-1])
    mean = (total - (summed - y)) / left  # of the images from this one on, at most
    odds = np.where(mean > _ROUNDING, y / np.maximum(mean, _ROUNDING), 1.0)
    mixed = np.full(y.shape, -np.inf)
    for bet in _BETS:  # one by one: ten thousand images of forty purifiers would take gigabytes at once
        mixed = np.logaddexp(mixed, np.cumsum(np.log1p(bet * (odds - 1)), axis=-1))
    mixed -= np.log(len(_BETS))
    impossible = (summed > total + _ROUNDING).any(axis=-1)
    return np.where(impossible, np.inf, np.maximum(mixed.max(axis=-1, initial=0.0), 0.0))


def threshold(rivals: int, error: float) -> float:
    """The log evidence that a comparison needs, if the best is compared with so many rivals and may lose to none.

    **Proof.** A candidate is dropped if its comparison with some other one rejects "the other certifies at most as
    many images as this one". For the best candidate, whichever it is, each of these `rivals` hypotheses is true. Each
    is ever rejected with probability at most `error / rivals`, so the best is ever dropped with probability at most
    `error`. Comparisons among the others may go wrong at any rate: they cannot drop the best.
    """
    return float(np.log(max(1, rivals) / error))
