"""Boundaries of an exact one-sided group-sequential test, which prove a radius or give it up.

Pure mathematics, without counts or files. Each radius `r_j` has one test of the null hypothesis
`pA <= t_j = Phi(r_j / sigma)` (Cohen, Rosenfeld, Kolter 2019, Theorem 1). A radius is proved when the hits at a look
reach its upper boundary, which happens with probability at most alpha at `pA = t_j`. The crossing probability comes
from the recursion of Armitage, McPherson and Rowe (1969), the spending of alpha over the looks from Lan and DeMets
(1983). Boundaries increase with the radius, so every false claim crosses the boundary of the smallest false radius,
and all radii together cost alpha only once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import betaincc, ndtr, ndtri

from bench.errors import InputError

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

_SLACK = 1e-12  # part of alpha left unspent at each look; exceeds the float64 error of the whole recursion
_OUTSIDE = 1e-15  # probability outside a truncated distribution; it is counted as crossing
_ROWS = 50  # radii per part of the recursion; their distributions fit the processor's cache


@dataclass(frozen=True)
class Constants:
    """Constants of a sequential rule, which must be fixed before any draw is seen.

    Parameters:
        lambda0: price of an undecided radius, in draws. A low price stops early; a high price decides more radii.
        power: exponent with which the price grows with the variance of the estimated radius (see `relative_price`).
        n_max: estimation draws at the last look.
        n_first: estimation draws at the first look.
        multiple: looks are rounded up to a multiple of it (except the last, `n_max`), so that full batches end at one.
        worth: number of draws worth one sigma of certified radius. 0: stop when every radius is decided. Otherwise
            never give up a radius, and stop when no later look promises enough radius for its draws.
    """

    lambda0: float
    power: float
    n_max: int
    n_first: int = 100
    multiple: int = 1
    worth: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lambda0 > 0 and 1 <= self.n_first <= self.n_max and self.multiple >= 1 and self.worth >= 0):
            raise InputError(f"lambda0 must be positive, 1 <= n_first <= n_max, multiple >= 1, worth >= 0, got {self}")

    def up_to(self, n_max: int) -> Constants:
        """The same constants with another last look, and a first look at no more than a tenth of it."""
        return replace(self, n_max=n_max, n_first=min(self.n_first, max(1, n_max // 10)))

    @property
    def looks(self) -> tuple[int, ...]:
        """Estimation draws at each look: 15 % more than at the previous one, rounded up; the last is `n_max`."""
        looks, n = [], self.n_first
        while (n := -(-n // self.multiple) * self.multiple) < self.n_max:
            looks.append(n)
            n = -(-115 * n // 100)  # in integers, because 1.15 * 20 exceeds 23 in float64
        return (*looks, self.n_max)


PRESETS = {
    "parity": Constants(lambda0=4e5, power=0.5, n_max=200_000),
    "tight": Constants(lambda0=1.1e5, power=0.5, n_max=100_000),
    "half-point": Constants(lambda0=6e4, power=0.5, n_max=100_000),
    "fast": Constants(lambda0=4e4, power=0.0, n_max=100_000),
    "acr": Constants(lambda0=9e3, power=0.0, n_max=30_000, worth=1e5),  # for a fine family of radii
}


@dataclass(frozen=True, eq=False)
class Boundaries:
    """All boundaries of a rule; `crossing_probability` verifies them.

    Attributes:
        radii `[J]`: L2, in [0,1] pixel units, increasing.
        thresholds `[J]`: `t_j = Phi(r_j / sigma)`, which pA must exceed.
        looks `[K]`: estimation draws at each look.
        upper `[J,K]`: hits at look k that prove radius j; `looks[k] + 1` if none do.
        give_up `[J,K]`: hits at look k that must be exceeded, else radius j is given up; -1 means never. The
            guarantee does not depend on it.
        crossing `[J]`: probability that the hits ever reach `upper` at `pA = t_j`, to within 1e-12; 0 if not alive.
        alive `[J]`: whether `n_max` hits in `n_max` draws prove the radius.
    """

    radii: _Floats
    thresholds: _Floats
    looks: _Ints
    upper: _Ints
    give_up: _Ints
    crossing: _Floats
    alive: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)  # all images of a run share the arrays

    def as_dict(self) -> dict[str, list[Any]]:
        """Every attribute as nested lists, for JSON."""
        return {name: array.tolist() for name, array in vars(self).items()}


def boundaries(sigma: float, radii: Sequence[float] | _Floats, alpha: float, constants: Constants) -> Boundaries:
    """Compute both boundaries at every look, for radii that share one `alpha`.

    Parameters:
        sigma: standard deviation of the smoothing noise, in [0,1] pixel units.
        radii: L2, in [0,1] pixel units, increasing; the first may be 0, which claims `pA > 1/2`.
        alpha: probability that the certificate of an image is wrong.

    Raises:
        ValueError: sigma, radii or alpha out of range.
        ArithmeticError: a crossing probability exceeds alpha, which would be a defect of this module.
    """
    r = np.asarray(radii, dtype=np.float64)
    if r.ndim != 1 or not r.size or not np.isfinite(r).all() or r[0] < 0 or (np.diff(r) <= 0).any():
        raise InputError(f"radii must be finite, increasing and not negative, got {list(radii)}")
    if not (sigma > 0 and 0 < alpha < 0.5):
        raise InputError(f"sigma must be positive and alpha in (0, 1/2), got sigma = {sigma}, alpha = {alpha}")
    t = ndtr(r / sigma)
    looks = np.array(constants.looks, dtype=np.int64)
    alive = constants.n_max * np.log(t) <= math.log(alpha)  # t^n_max <= alpha: all hits would prove the radius
    upper = np.tile(looks + 1, (len(r), 1))
    give_up = np.tile(looks, (len(r), 1))
    crossing = np.zeros(len(r))
    if alive.any():
        x = relative_price(t[alive], constants)
        # Power family of spending functions, alpha (n / n_max)^rho with rho = 1/2 (Kim, DeMets 1987). High prices
        # keep more of alpha for the last look, which gets the rest. The constants affect cost, not the guarantee.
        budget = alpha * np.minimum(1, 0.85 * x[:, None] ** -0.5) * np.sqrt(looks / constants.n_max)
        budget[:, -1] = alpha
        own, _ = _recursion(t[alive], looks, budget=budget)
        # A running maximum over radii can only raise a boundary, so its crossing probability can only fall.
        upper[alive] = np.maximum.accumulate(own, axis=0)
        if constants.worth:
            give_up[alive] = np.where(looks < constants.n_max, -1, constants.n_max)
        else:
            give_up[alive] = np.maximum.accumulate(give_up_hits(own[:, -1], looks, x), axis=0)
        crossing[alive] = crossing_probability(t[alive], looks, upper[alive])
    if not (crossing <= alpha).all():
        raise ArithmeticError(f"a boundary is crossed with probability {crossing.max()}, more than alpha = {alpha}")
    return Boundaries(r, t, looks, upper, give_up, crossing, alive)


def crossing_probability(p: _Floats, looks: _Ints, upper: _Ints) -> _Floats:
    """Probability `[J]` that the hits, of probability `p_j` each, reach `upper[j,k]` at any look k.

    Exact up to float64, and an upper bound: truncated probability (less than 1e-12 in all) counts as crossing.

    Parameters:
        p: `[J]`, strictly between 0 and 1.
        looks: `[K]`, cumulative draws.
        upper: `[J,K]`.
    """
    return _recursion(p, looks, upper=upper)[1]


def relative_price(t: _Floats, constants: Constants) -> _Floats:
    """Price of an undecided radius over `n_max`, `[J]`: `lambda0 v^power / n_max`, at most 30.

    By the delta method the estimate `Phi^-1(hits / n)` has variance `t (1-t) / phi(Phi^-1(t))^2 / n`; `v` is this
    variance relative to its value at t = 1/2.
    """
    density = np.exp(-0.5 * ndtri(t) ** 2) / math.sqrt(2 * math.pi)
    v = t * (1 - t) / density**2 / (math.pi / 2)
    return np.minimum(constants.lambda0 * v**constants.power, 30 * constants.n_max) / constants.n_max


def _recursion(
    p: _Floats, looks: _Ints, *, budget: _Floats | None = None, upper: _Ints | None = None
) -> tuple[_Ints, _Floats]:
    """Propagate the distribution of the hits on paths that have not crossed (Armitage et al. 1969), look by look.

    Either `upper [J,K]` is given, or it is chosen as the lowest boundary whose crossing probability up to each look
    stays within `budget [J,K]` (Lan, DeMets 1983). Returns `upper` and the crossing probability `[J]`.
    """
    parts = [slice(i, i + _ROWS) for i in range(0, len(p), _ROWS)]
    results = [
        _recursion_part(p[s], looks, None if budget is None else budget[s], None if upper is None else upper[s])
        for s in parts
    ]
    return np.concatenate([chosen for chosen, _ in results]), np.concatenate([spent for _, spent in results])


def _recursion_part(p: _Floats, looks: _Ints, budget: _Floats | None, upper: _Ints | None) -> tuple[_Ints, _Floats]:
    """The recursion for some of the radii. Row j of `law` has the probabilities of `low[j], low[j] + 1, ...` hits."""
    law, low, spent = np.ones((len(p), 1)), np.zeros(len(p), dtype=np.int64), np.zeros(len(p))
    chosen = np.empty((len(p), len(looks)), dtype=np.int64) if upper is None else upper
    for k, (n, draws) in enumerate(zip(looks, np.diff(looks, prepend=0), strict=True)):
        first, increment = _binomial(int(draws), p)
        law, low = _convolve(law, increment), low + first
        spent += _OUTSIDE
        tail = np.zeros((len(p), law.shape[1] + 1))  # tail[:, i] = P(hits >= low + i, not crossed before)
        tail[:, :-1] = np.cumsum(law[:, ::-1], axis=1)[:, ::-1]
        if budget is not None:
            room = budget[:, k] - spent - _SLACK
            chosen[:, k] = np.where(room >= 0, low + np.argmax(tail <= room[:, None], axis=1), n + 1)
        inside = np.clip(chosen[:, k] - low, 0, law.shape[1])
        spent += tail[np.arange(len(p)), inside]
        law[np.arange(law.shape[1]) >= inside[:, None]] = 0
        # Drop the lowest hits while their total probability is at most OUTSIDE.
        skip = np.count_nonzero(np.cumsum(law, axis=1) <= _OUTSIDE, axis=1)
        spent += _OUTSIDE
        columns = skip[:, None] + np.arange(max(1, int((inside - skip).max())))
        law = np.where(columns < inside[:, None], np.take_along_axis(law, np.minimum(columns, law.shape[1] - 1), 1), 0)
        low = low + skip
    return chosen, spent


def _convolve(a: _Floats, b: _Floats) -> _Floats:
    """Convolve row by row by FFT. Its rounding error, summed over all hits and looks, stays well below SLACK."""
    size = a.shape[1] + b.shape[1] - 1
    fast = next_fast_len(size, real=True)
    return np.maximum(irfft(rfft(a, fast, axis=1) * rfft(b, fast, axis=1), fast, axis=1)[:, :size], 0)


def _binomial(draws: int, p: _Floats) -> tuple[_Ints, _Floats]:
    """`first [J]` (may be negative) and the probabilities `[J,M]` of `first[j], first[j] + 1, ...` hits in `draws`.

    By Bernstein's inequality, `P(|X - n p| >= d) <= 2 exp(-d^2 / (2 (n p (1-p) + d/3)))`, less than OUTSIDE lies
    outside the window. Ratios of neighbours keep all but the last few bits; a difference of log-factorials would lose
    four decimal digits.
    """
    a = math.log(2 / _OUTSIDE)
    half = min(draws, 2 + math.ceil(a / 3 + math.sqrt(a * a / 9 + 2 * a * draws * float(np.max(p * (1 - p))))))
    mode = np.minimum(np.floor((draws + 1) * p), draws).astype(np.int64)
    step = np.arange(1, half + 1)
    odds = (p / (1 - p))[:, None]
    up = mode[:, None] + step
    down = mode[:, None] - step + 1
    above = np.cumprod(np.maximum(draws - up + 1, 0) / up * odds, axis=1)
    below = np.cumprod(np.maximum(down, 0) / (draws - down + 1) / odds, axis=1)
    law = np.concatenate([below[:, ::-1], np.ones((len(p), 1)), above], axis=1)
    return mode - half, law / law.sum(axis=1, keepdims=True)


def give_up_hits(last: _Ints, looks: _Ints, x: _Floats) -> _Ints:
    """The most hits `[J,K]` at which reaching the last look's boundary `last [J]` is too improbable to continue.

    Stopping by predictive power (Spiegelhalter, Freedman, Blackburn 1986): the hits so far predict the share of hits
    at the last look by a Beta distribution with Jeffreys' prior, and a radius is given up when the predicted chance
    falls below `needed`, which grows with the draws spent. `x [J]` is `relative_price`. The constants trade draws
    for undecided radii; the guarantee does not depend on them.
    """
    n_max = int(looks[-1])
    n = looks[:-1].astype(np.float64)
    share = np.minimum(0.85, 0.4 / x)[:, None]
    patience = n_max * np.minimum(1, 0.15 * x ** np.where(x >= 1, 0.37, 0.76))[:, None]
    needed = share * np.minimum(1, n / patience)
    target = np.minimum(last / n_max, 1)[:, None]
    f = n_max / (n_max - n)
    low, high = np.full(needed.shape, -1), np.tile(looks[:-1] + 1, (len(x), 1))  # hopeless at low, not at high
    while (high - low > 1).any():
        s = (low + high) // 2
        hopeless = betaincc(0.5 + np.maximum(s, 0) * f, 0.5 + (n - np.maximum(s, 0)) * f, target) < needed
        low, high = np.where(hopeless & (s >= 0), s, low), np.where(hopeless & (s >= 0), high, s)
    return np.concatenate([low, np.full((len(x), 1), n_max)], axis=1)
