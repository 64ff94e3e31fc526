"""Distances between images and between sets of them: pure functions of arrays."""

from __future__ import annotations

import numpy as np
from scipy.linalg import svdvals
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from bench.errors import InputError


def l2(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Euclidean distance of each image to its counterpart: `[n,...]` and `[n,...]` to `[n]`, in the images' units."""
    return np.linalg.norm(_flat(a) - _flat(b), axis=1)


def transport_cost(a: np.ndarray, b: np.ndarray) -> float:
    """The 1-Wasserstein distance of two sets of `n` images under the Euclidean distance, in the images' units.

    It is the least mean distance over all pairings of both sets, the exact solution of an assignment problem (Jonker
    and Volgenant; scipy). It never exceeds the mean of `l2`, which uses one of these pairings.

    Parameters:
        a, b: `[n,...]`.
    """
    distances = cdist(_flat(a), _flat(b))
    return float(distances[linear_sum_assignment(distances)].mean())


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The Fréchet distance of Gaussians fitted to two sets of features (Dowson and Landau 1982; Heusel et al. 2017).

    `|m1 - m2|^2 + tr(C1) + tr(C2) - 2 tr((C1 C2)^(1/2))`, with unbiased covariances. With `Ci = Ai' Ai` the last trace
    is the sum of the singular values of `A1 A2'`, which also holds for fewer images than features.

    Parameters:
        a, b: `[n, d]` and `[m, d]`, two rows at least.

    Raises:
        ValueError: a set has one image only, which has no covariance.
    """
    if min(len(a), len(b)) < 2:
        raise InputError("a Fréchet distance needs two images at least")
    sets = [np.asarray(x, np.float64) for x in (a, b)]
    means = [x.mean(axis=0) for x in sets]
    roots = [(x - mean) / np.sqrt(len(x) - 1) for x, mean in zip(sets, means, strict=True)]
    small = [np.linalg.qr(root)[1] for root in roots]  # the same covariances, of d rows at most
    cross = svdvals(small[0] @ small[1].T).sum()
    total = ((means[0] - means[1]) ** 2).sum() + sum((root**2).sum() for root in roots)
    return max(0.0, float(total - 2 * cross))


def _flat(images: np.ndarray) -> np.ndarray:
    return np.asarray(images, np.float64).reshape(len(images), -1)
