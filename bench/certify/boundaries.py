"""Boundaries of the exact one-sided group-sequential test: when a radius is proved, and when it is given up.

Pure mathematics, no counts and no files. One test for each radius `r_j`: the class has `pA <= t_j = Phi(r_j / sigma)`.
A radius is proved when the hits at a look reach its upper boundary, which is crossed with probability at most alpha
at `pA = t_j` (Armitage, McPherson, Rowe 1969, the recursion; Lan, DeMets 1983, the spending of alpha over the looks).
The boundaries grow with the radius, so every false claim crosses the boundary of the smallest radius that is false:
the nested grid costs alpha once.
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

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SLACK = 1e-12  # of the budget, left unspent at every look: more than float64 can lose in the whole recursion
OUTSIDE = 1e-15  # probability that a window may leave out; every bit left out is counted as a crossing
ROWS = 50  # radii that the recursion follows together: their laws fit the processor's cache


@dataclass(frozen=True)
class Constants:
    """What distinguishes one sequential rule from another; fixed before any draw is seen.

    Parameters:
        lambda0: price of an undecided radius in draws: a small one stops early, a large one decides more.
        power: exponent of the price's growth towards large radii, whose test needs more draws.
        n_max: estimation draws at the last look.
        n_first: estimation draws at the first look.
        multiple: looks are rounded up to multiples of it (the last one is `n_max`), so that full batches end on one.
        worth: draws that one sigma of certified radius is worth. 0: stop when every radius is decided. Otherwise stop
            when no later look promises a gain of radius that is worth the draws up to it, and never give up a radius.
    """

    lambda0: float
    power: float
    n_max: int
    n_first: int = 100
    multiple: int = 1
    worth: float = 0.0

    def __post_init__(self) -> None:
        if not (self.lambda0 > 0 and 1 <= self.n_first <= self.n_max and self.multiple >= 1 and self.worth >= 0):
            raise ValueError(f"lambda0 must be positive, 1 <= n_first <= n_max, multiple >= 1, worth >= 0, got {self}")

    def up_to(self, n_max: int) -> Constants:
        """The same rule with another last look (and a first one at a tenth of it at most)."""
        return replace(self, n_max=n_max, n_first=min(self.n_first, max(1, n_max // 10)))

    @property
    def looks(self) -> tuple[int, ...]:
        """Estimation draws at the looks: each 15 % beyond the one before, in whole numbers, the last at `n_max`."""
        looks, n = [], self.n_first
        while (n := -(-n // self.multiple) * self.multiple) < self.n_max:
            looks.append(n)
            n = -(-115 * n // 100)  # integers: 1.15 * 20 is a little more than 23 in float64
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
    """A certificate rule in full: anyone can check it with `crossing_probability`.

    Attributes:
        radii `[J]`: L2, in [0,1] pixel units, increasing.
        thresholds `[J]`: `t_j = Phi(r_j / sigma)`, what pA must exceed.
        looks `[K]`: estimation draws at each look.
        upper `[J,K]`: radius j is proved when the hits at look k reach it; `looks[k] + 1` where nothing does.
        give_up `[J,K]`: radius j is given up unless the hits at look k exceed it; -1 where it never is. Not part of
            the guarantee.
        crossing `[J]`: probability that `upper` is ever reached at `pA = t_j`, to within 1e-12 (see
            `crossing_probability`); 0 for dead radii.
        alive `[J]`: False for radii that `n_max` hits in `n_max` draws would not prove.
    """

    radii: Floats
    thresholds: Floats
    looks: Ints
    upper: Ints
    give_up: Ints
    crossing: Floats
    alive: NDArray[np.bool_]

    def __post_init__(self) -> None:
        for array in vars(self).values():
            array.setflags(write=False)  # shared by every image of a run

    def as_dict(self) -> dict[str, list[Any]]:
        """Every attribute as nested lists, for JSON."""
        return {name: array.tolist() for name, array in vars(self).items()}


def boundaries(sigma: float, radii: Sequence[float] | Floats, alpha: float, constants: Constants) -> Boundaries:
    """Both boundaries at every look, for radii that share one `alpha`.

    Parameters:
        sigma: of the smoothing noise, in [0,1] pixel units.
        radii: increasing, the first may be 0 (which claims `pA > 1/2`).
        alpha: probability that the certificate of an image is wrong.

    Raises:
        ValueError: sigma, radii or alpha out of range.
        ArithmeticError: a boundary would be crossed too often; a fault of this module, never of its input.
    """
    r = np.asarray(radii, dtype=np.float64)
    if r.ndim != 1 or not r.size or not np.isfinite(r).all() or r[0] < 0 or (np.diff(r) <= 0).any():
        raise ValueError(f"radii must be finite, increasing and not negative, got {list(radii)}")
    if not (sigma > 0 and 0 < alpha < 0.5):
        raise ValueError(f"sigma must be positive and alpha in (0, 1/2), got sigma = {sigma}, alpha = {alpha}")
    t = ndtr(r / sigma)
    looks = np.array(constants.looks, dtype=np.int64)
    alive = constants.n_max * np.log(t) <= math.log(alpha)
    upper = np.tile(looks + 1, (len(r), 1))
    give_up = np.tile(looks, (len(r), 1))
    crossing = np.zeros(len(r))
    if alive.any():
        x = _relative_price(t[alive], constants)
        budget = alpha * np.minimum(1, 0.85 * x[:, None] ** -0.5) * np.sqrt(looks / constants.n_max)
        budget[:, -1] = alpha
        own, _ = _recursion(t[alive], looks, budget=budget)
        # Running maxima over the radii only ever raise a boundary, so it is crossed less often.
        upper[alive] = np.maximum.accumulate(own, axis=0)
        if constants.worth:
            give_up[alive] = np.where(looks < constants.n_max, -1, constants.n_max)
        else:
            give_up[alive] = np.maximum.accumulate(_give_up(own[:, -1], looks, x), axis=0)
        crossing[alive] = crossing_probability(t[alive], looks, upper[alive])
    if not (crossing <= alpha).all():
        raise ArithmeticError(f"a boundary is crossed with probability {crossing.max()}, more than alpha = {alpha}")
    return Boundaries(r, t, looks, upper, give_up, crossing, alive)


def crossing_probability(p: Floats, looks: Ints, upper: Ints) -> Floats:
    """Probability `[J]` that `Binomial(n_k, p_j)` hits, added up over the looks, reach `upper[j,k]` at some look k.

    Exact up to float64: what the windows leave out is counted as crossing, less than 1e-12 in all. `0 < p < 1`.
    """
    return _recursion(p, looks, upper=upper)[1]


def _relative_price(t: Floats, constants: Constants) -> Floats:
    """Price of an undecided radius `[J]` over `n_max`; `v` is the variance of the radius' estimate, 1 at t = 1/2."""
    density = np.exp(-0.5 * ndtri(t) ** 2) / math.sqrt(2 * math.pi)
    v = t * (1 - t) / density**2 / (math.pi / 2)
    return np.minimum(constants.lambda0 * v**constants.power, 30 * constants.n_max) / constants.n_max


def _recursion(
    p: Floats, looks: Ints, *, budget: Floats | None = None, upper: Ints | None = None
) -> tuple[Ints, Floats]:
    """Follow the law of the hits over paths that have not crossed, and choose `upper [J,K]` where it is not given.

    `budget [J,K]` is the probability of crossing that may be spent up to each look. Returns the boundary `[J,K]` and
    the probability of crossing `[J]`.
    """
    parts = [slice(i, i + ROWS) for i in range(0, len(p), ROWS)]
    done = [
        _recursion_part(p[s], looks, None if budget is None else budget[s], None if upper is None else upper[s])
        for s in parts
    ]
    return np.concatenate([chosen for chosen, _ in done]), np.concatenate([spent for _, spent in done])


def _recursion_part(p: Floats, looks: Ints, budget: Floats | None, upper: Ints | None) -> tuple[Ints, Floats]:
    """One part of the rows. Row j of `law` holds the probabilities of `low[j], low[j] + 1, ...` hits."""
    law, low, spent = np.ones((len(p), 1)), np.zeros(len(p), dtype=np.int64), np.zeros(len(p))
    chosen = np.empty((len(p), len(looks)), dtype=np.int64) if upper is None else upper
    for k, (n, draws) in enumerate(zip(looks, np.diff(looks, prepend=0), strict=True)):
        first, increment = _binomial(int(draws), p)
        law, low = _convolve(law, increment), low + first
        spent += OUTSIDE
        tail = np.zeros((len(p), law.shape[1] + 1))  # tail[:, i] = P(hits >= low + i, not crossed before)
        tail[:, :-1] = np.cumsum(law[:, ::-1], axis=1)[:, ::-1]
        if budget is not None:
            room = budget[:, k] - spent - SLACK
            chosen[:, k] = np.where(room >= 0, low + np.argmax(tail <= room[:, None], axis=1), n + 1)
        inside = np.clip(chosen[:, k] - low, 0, law.shape[1])
        spent += tail[np.arange(len(p)), inside]
        law[np.arange(law.shape[1]) >= inside[:, None]] = 0
        # Leave out the lowest hits, as long as they are improbable.
        skip = np.count_nonzero(np.cumsum(law, axis=1) <= OUTSIDE, axis=1)
        spent += OUTSIDE
        columns = skip[:, None] + np.arange(max(1, int((inside - skip).max())))
        law = np.where(columns < inside[:, None], np.take_along_axis(law, np.minimum(columns, law.shape[1] - 1), 1), 0)
        low = low + skip
    return chosen, spent


def _convolve(a: Floats, b: Floats) -> Floats:
    """Convolve row by row. The rounding of the transform, added over rows and looks, stays well below SLACK."""
    size = a.shape[1] + b.shape[1] - 1
    fast = next_fast_len(size, real=True)
    return np.maximum(irfft(rfft(a, fast, axis=1) * rfft(b, fast, axis=1), fast, axis=1)[:, :size], 0)


def _binomial(draws: int, p: Floats) -> tuple[Ints, Floats]:
    """Probabilities `[J,M]` of `first[j], first[j] + 1, ...` hits in `draws`, and `first [J]` (which may be negative).

    The window leaves out less than OUTSIDE (Bernstein's inequality); within it the ratios of neighbours are exact to
    a few units in the last place, where a difference of log-factorials would lose four digits.
    """
    a = math.log(2 / OUTSIDE)
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


def _give_up(last: Ints, looks: Ints, x: Floats) -> Ints:
    """The largest number of hits `[J,K]` at which the last look's boundary `last [J]` is too improbable to wait for.

    The hits so far predict the share at the last look by a Beta law (Jeffreys' prior); the wait ends where the
    chance of crossing falls below a share that grows with the draws already spent.
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
