"""Paths of counts on images with known pA, on which all sequential rules are tried, and the decisions they lead to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtri

from bench.certify.arena.evidence import Floats, Ints

SELECTION = 100  # N0: draws of every rule that choose the class
_RUNS = 5000  # at once; bounds the memory


@dataclass(frozen=True, eq=False)
class Images:
    """Images of a published log, with the probabilities that the arena simulates.

    Attributes:
        name: of the log.
        sigma: standard deviation of its noise, in [0,1] pixel units.
        p `[M]`: probability pA of the class that the selection chooses; it is assumed to choose no other.
        correct `[M]`: whether this class is the true one.
        radii: at which accuracy is compared, L2 in [0,1] pixel units, increasing.
    """

    name: str
    sigma: float
    p: Floats
    correct: NDArray[np.bool_]
    radii: tuple[float, ...]

    @property
    def half(self) -> Ints:
        """`[M]`: 0 or 1 in turn. What a rule learns for one half, it learns from the other."""
        return np.arange(len(self.p)) % 2


@dataclass(frozen=True, eq=False)
class Paths:
    """Counts of R runs: `hits [R,K]` after `looks [K]` draws, selection `votes [R]`, `image` and `run [R]` of each."""

    looks: Ints
    hits: Ints
    votes: Ints
    image: Ints
    run: Ints


def published_images(
    name: str, sigma: float, radius: Floats, abstained: NDArray[np.bool_], correct: NDArray[np.bool_],
    radii: tuple[float, ...], alpha: float, n: int,
) -> Images:  # fmt: skip
    """Images as a published log describes them: each radius is inverted to its number of hits, and `pA = hits / n`.

    Abstentions get values of pA spread evenly over [0.3, 0.5] and count as incorrect.

    Parameters:
        radius, abstained, correct: `[M]`, the columns of the log.
        alpha, n: the constants with which the log was made.
    """
    hits = np.arange(n // 2, n + 1)
    exact = sigma * ndtri(betaincinv(hits, n - hits + 1, alpha))
    p = hits[np.searchsorted((exact[1:] + exact[:-1]) / 2, radius)] / n
    p[abstained] = np.linspace(0.3, 0.5, int(abstained.sum()))
    return Images(name, sigma, p, correct & ~abstained, radii)


def dense_looks(horizon: int) -> Ints:
    """Every number of draws up to 100, then each at most 2 % later than the one before (and 1 % on average)."""
    looks, n = list(range(1, min(100, horizon) + 1)), min(100, horizon)
    while n < horizon:
        n = min(horizon, -(-102 * n // 100))
        looks.append(n)
    return np.array(looks)


def paths(images: Images, looks: Ints, repeats: int, seed: int) -> Iterator[Paths]:
    """Simulate `repeats` runs of every image, in parts."""
    rng = np.random.default_rng(seed)
    steps = np.diff(looks, prepend=0)[:, None]
    for part in np.array_split(np.arange(len(images.p)), -(-len(images.p) * repeats // _RUNS)):
        p = images.p[part]
        # The innermost axis repeats one (draws, pA), for which numpy then keeps its tables.
        drawn = rng.binomial(steps, p[:, None, None], size=(len(p), len(looks), repeats))
        hits = np.cumsum(drawn, axis=1).transpose(0, 2, 1).reshape(-1, len(looks))
        votes = rng.binomial(SELECTION, p[:, None], size=(len(p), repeats)).ravel()
        yield Paths(
            looks, np.ascontiguousarray(hits), votes, np.repeat(part, repeats), np.tile(np.arange(repeats), len(p))
        )


def decide(hits: Ints, upper: Ints, lower: Ints | None, rows: Ints | None = None) -> tuple[Ints, NDArray[np.bool_]]:
    """Index `[R]` of the look at which every radius is decided, and whether each was proved `[R,J]`.

    A radius is proved at the first look at which the hits reach `upper`, unless they fell to `lower` before. If
    boundaries increase with the radius, this is what `bench.certify.Sequential` decides. The index is -1 without radii.

    Parameters:
        hits: `[R,K]`.
        upper, lower: `[J,K]`, or `[S,J,K]` with the row of each run in `rows [R]`. Without `lower`, no run stops.
    """
    runs, last = np.arange(len(hits)), hits.shape[1] - 1
    radii = upper.shape[-2]
    stop = np.full(len(hits), last if lower is None else -1)
    proved = np.zeros((len(hits), radii), dtype=np.bool_)
    for j in range(radii):
        rises, first = _first(hits >= (upper[j] if rows is None else upper[rows, j]), runs)
        proved[:, j] = rises
        if lower is not None:
            falls, end = _first(hits <= (lower[j] if rows is None else lower[rows, j]), runs)
            proved[:, j] &= ~falls | (first <= end)
            decided = np.minimum(np.where(rises, first, last), np.where(falls, end, last))
            stop = np.maximum(stop, decided)
    return stop, proved


def _first(crossed: NDArray[np.bool_], runs: Ints) -> tuple[NDArray[np.bool_], Ints]:
    """Whether each run `[R]` crosses in `crossed [R,K]`, and the index of the first look at which it does."""
    first = crossed.argmax(axis=1)
    return crossed[runs, first], first
