"""Intervals and paired tests: pure functions of arrays, whose rows are images and whose columns are options.

"Paired" means that both columns saw the same images and, if their cells have one seed, the same noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import ndtri
from scipy.stats import binomtest

CONFIDENCE = 0.95
LEVEL = 1 - CONFIDENCE
_RESAMPLES = 2000
_TEST_RESAMPLES = 10_000  # of p-values: p can be below 5 % after a correction for a hundred comparisons
SPLITS = 500
_MOST_KEPT = 2**25  # draws of a bootstrap that are cached, 64 MiB
_IN_CACHE = 1024  # resamples that are compared at a time: columns of so many stay in a processor's cache
_POWER = 0.8
FEWEST = 10  # images: a bootstrap of fewer says nothing about other images


def _few_kept(draw: Callable[[int, int, int], Iterator[np.ndarray]]) -> Callable[[int, int, int], Iterable[np.ndarray]]:
    """Cache the chunks of a function of (images, resamples, seed) if they are few: a report needs them many times."""
    kept = lru_cache(maxsize=4)(lambda *sizes: tuple(draw(*sizes)))
    return lambda images, resamples, seed: (kept if images * resamples <= _MOST_KEPT else draw)(images, resamples, seed)


@lru_cache(maxsize=2**14)
def wilson_interval(hits: int, total: int) -> tuple[float, float]:
    """Two-sided 95 % interval of a proportion (Wilson 1927); (0, 1) for no trials."""
    if total == 0:
        return 0.0, 1.0
    interval = binomtest(hits, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def resampled_means(values: np.ndarray, resamples: int = _RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of columns over images drawn with replacement: the same draws for every column and in every call.

    Parameters:
        values: `[images, options]`.

    Returns:
        `[resamples, options]`; memory stays bounded however many images there are.
    """
    images = len(values)
    drawn = _times_drawn(images, resamples, seed)
    return np.concatenate([times.astype(float) @ values / images for times in drawn])


def resampled_shares(hits: np.ndarray, resamples: int = _RESAMPLES, seed: int = 0) -> np.ndarray:
    """`resampled_means` of columns of hits, cached by column: a report reads the same ones under every budget.

    Sums of hits are exact, so a column's means do not depend on the other columns of a call.

    Parameters:
        hits: bool `[images, options]`.
    """
    keys = [(column.tobytes(), len(hits), resamples, seed) for column in np.packbits(hits, axis=0).T]
    new = [i for i, key in enumerate(keys) if key not in _SHARES]
    if new:
        made = resampled_means(hits[:, new].astype(float), resamples, seed)
        _SHARES.update(zip((keys[i] for i in new), made.T, strict=True))
    shares = np.stack([_SHARES[key] for key in keys], axis=1)
    if len(_SHARES) > _MOST_SHARES:
        _SHARES.clear()
    return shares


_SHARES: dict[tuple[bytes, int, int, int], np.ndarray] = {}
_MOST_SHARES = 2000  # columns, 16 kB each


@_few_kept
def _times_drawn(images: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Multiplicity of each image in each resample, a chunk of resamples at a time: uint16 `[chunk, images]`."""
    rng = np.random.default_rng(seed)
    chunk = max(1, 2**21 // images)
    for start in range(0, resamples, chunk):
        picks = rng.integers(images, size=(min(chunk, resamples - start), images))
        picks += images * np.arange(len(picks))[:, None]
        yield np.bincount(picks.ravel(), minlength=picks.size).reshape(picks.shape).astype(np.uint16)


def mean_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    """Percentile bootstrap interval (95 %) of a mean over images; NaN for fewer than two."""
    if len(values) < 2:
        return (float("nan"), float("nan"))
    return percentile_interval(resampled_means(np.asarray(values, float)[:, None], seed=seed))


def percentile_interval(resampled: np.ndarray) -> tuple[float, float]:
    """The central 95 % of resamples; NaN if one of them is."""
    low, high = np.quantile(resampled, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Difference:
    """The first of two options minus the second, on the same images.

    Attributes:
        images: in common.
        effect, low, high: the difference and its 95 % interval.
        p: two-sided, of no difference.
        only_first, only_second: share of images that one of them alone certifies (0 if the values are radii).
    """

    images: int
    effect: float
    low: float
    high: float
    p: float
    only_first: float = 0.0
    only_second: float = 0.0


@lru_cache(maxsize=2**14)
def _mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's exact test (1947), two-sided: the discordant images fall to either side like a fair coin."""
    total = only_first + only_second
    return float(binomtest(only_first, total, 0.5).pvalue) if total else 1.0


def _newcombe_interval(both: int, only_first: int, only_second: int, neither: int) -> tuple[float, float]:
    """95 % interval of a difference of paired proportions (Newcombe 1998, Statist. Med. 17:2635, method 10).

    Wilson's intervals of the two proportions, combined by their correlation, which is corrected for continuity.
    """
    n = both + only_first + only_second + neither
    if n == 0:
        return -1.0, 1.0
    hits = both + only_first, both + only_second
    (p1, p2), (l1, u1), (l2, u2) = (h / n for h in hits), *(wilson_interval(h, n) for h in hits)
    margins = hits[0] * hits[1] * (n - hits[0]) * (n - hits[1])
    cross = both * neither - only_first * only_second
    correlation = (max(cross - n / 2, 0) if cross > 0 else cross) / math.sqrt(margins) if margins else 0.0
    below = (p1 - l1) ** 2 - 2 * correlation * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2
    above = (u1 - p1) ** 2 - 2 * correlation * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2
    return p1 - p2 - math.sqrt(max(below, 0.0)), p1 - p2 + math.sqrt(max(above, 0.0))


def accuracy_difference(first: np.ndarray, second: np.ndarray) -> Difference:
    """Difference of two certified accuracies: McNemar's exact test, Newcombe's interval.

    Parameters:
        first, second: `[images]`, whether each image is certified.
    """
    first, second = np.asarray(first, bool), np.asarray(second, bool)
    n, ahead, behind = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    both = int((first & second).sum())
    low, high = _newcombe_interval(both, ahead, behind, n - both - ahead - behind)
    shares = (ahead / n, behind / n) if n else (0.0, 0.0)
    return Difference(n, shares[0] - shares[1], low, high, _mcnemar_p(ahead, behind), *shares)


def mean_differences(gained: np.ndarray, seed: int = 0) -> list[Difference]:
    """Test means of differences, such as of certified radii, against 0: paired percentile bootstrap.

    p is twice the share of resamples on the far side of 0, so that it is below 5 % if the interval excludes 0; it
    is 1 if nothing differs, or for fewer than two images.

    Parameters:
        gained: `[images, pairs]`, first minus second of each pair, on the same images.
    """
    images, pairs = gained.shape
    if images < 2:
        alone = gained.mean(axis=0) if images else np.full(pairs, np.nan)
        return [Difference(images, float(effect), float("nan"), float("nan"), 1.0) for effect in alone]
    means = resampled_means(gained, _TEST_RESAMPLES, seed)
    low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    beyond = np.minimum((means <= 0).sum(axis=0), (means >= 0).sum(axis=0))
    p = np.minimum(1.0, 2 * (beyond + 1) / (len(means) + 1))
    effects = gained.mean(axis=0)
    return [Difference(images, *(float(v) for v in row)) for row in zip(effects, low, high, p, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values (Holm 1979): at most 5 % of families without differences have one below 5 %."""
    p = np.asarray(p_values, float)
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted.tolist()


def against_best(values: np.ndarray, best: int, alone: Sequence[float], seed: int = 0) -> list[float]:
    """p-values of each column's difference to the best one, corrected for the best having been chosen on these images.

    The difference, in units of its standard error, is compared with the largest one between any two columns in
    bootstrap resamples of the images, each centred at its mean (max-T over all pairs, Westfall and Young 1993). So if
    all columns are equal, one is called lower than the chosen best in about 5 % of cases, however many they are.

    Parameters:
        values: `[images, columns]`: whether each image is certified, or its radius.
        best: number of the best column.
        alone: p of each column's own test against the best, below which the corrected one never falls.
    """
    values = np.asarray(values, float)
    images, columns = values.shape
    if images < 2:
        return [1.0] * columns
    centred = np.ascontiguousarray((resampled_means(values, _TEST_RESAMPLES, seed) - values.mean(axis=0)).T)
    largest = np.zeros(centred.shape[1])
    for i in range(columns - 1):
        error = _standard_errors(values[:, i : i + 1] - values[:, i + 1 :])
        differ = error > 0
        others, scale = centred[i + 1 :][differ], error[differ, None]
        for first in range(0, len(largest), _IN_CACHE):
            part = slice(first, first + _IN_CACHE)
            deviations = np.abs(centred[i, part] - others[:, part])
            deviations /= scale
            largest[part] = np.maximum(largest[part], deviations.max(axis=0, initial=0.0))
    behind = values[:, best : best + 1] - values
    error, observed = _standard_errors(behind), np.zeros(columns)
    np.divide(behind.mean(axis=0), error, out=observed, where=error > 0)
    p = ((largest[:, None] >= observed - 1e-12).sum(axis=0) + 1) / (len(largest) + 1)
    return [max(own, joint) for own, joint in zip(alone, p.tolist(), strict=True)]


def _standard_errors(differences: np.ndarray) -> np.ndarray:
    """Of the means of columns, `[images, columns]`."""
    return np.asarray(differences.std(axis=0, ddof=1) / math.sqrt(len(differences)))


def images_needed(only_first: float, only_second: float, alpha: float = LEVEL) -> float:
    """Images that separate two certified accuracies with some power, if these shares are the true ones (Connor 1987).

    Parameters:
        only_first, only_second: share of images that one of the two alone certifies.

    Returns:
        Infinity if the shares are equal.
    """
    apart, effect = only_first + only_second, only_first - only_second
    if effect == 0:
        return math.inf
    spread = float(ndtri(1 - alpha / 2)) * math.sqrt(apart) + float(ndtri(_POWER)) * math.sqrt(apart - effect**2)
    return math.ceil((spread / effect) ** 2)


def split_half(values: np.ndarray, splits: int = SPLITS, seed: int = 0) -> tuple[float, np.ndarray]:
    """The mean of the best column on images that did not choose it.

    One half of the images chooses the column, the other half reads it, both ways, over random splits. (The best mean
    over all images is too high, because the same images choose and read it.)

    Parameters:
        values: `[images, columns]`.

    Returns:
        The mean (NaN for one image), and the share of splits in which each column was chosen.
    """
    return split_halves(values, [range(values.shape[1])], splits, seed)[0]


def split_halves(
    values: np.ndarray, groups: Sequence[Sequence[int]], splits: int = SPLITS, seed: int = 0
) -> list[tuple[float, np.ndarray]]:
    """`split_half` of each group of columns, all on the same halves: that takes little longer than one of them.

    Parameters:
        values: `[images, columns]`.
        groups: numbers of columns among which one is chosen.
    """
    images = len(values)
    if images < 2:
        return [(float("nan"), np.full(len(group), np.nan)) for group in groups]
    columns = [np.asarray(group) for group in groups]
    read, chosen, size = [0.0] * len(columns), [np.zeros(len(group)) for group in columns], images // 2
    for halves in _first_halves(images, splits, seed):
        one = halves.astype(float) @ values / size
        other = (values.sum(axis=0) - one * size) / (images - size)
        for choosing, reading in ((one, other), (other, one)):
            for i, group in enumerate(columns):
                best = choosing[:, group].argmax(axis=1)
                chosen[i] += np.bincount(best, minlength=len(group))
                read[i] += reading[np.arange(len(best)), group[best]].sum()
    return [(total / (2 * splits), times / (2 * splits)) for total, times in zip(read, chosen, strict=True)]


@_few_kept
def _first_halves(images: int, splits: int, seed: int) -> Iterator[np.ndarray]:
    """The images in the first half of each random split, a chunk of splits at a time: bool `[chunk, images]`."""
    rng = np.random.default_rng(seed)
    chunk = max(1, 2**21 // images)
    for start in range(0, splits, chunk):
        yield np.array([rng.permutation(images) < images // 2 for _ in range(min(chunk, splits - start))])
