"""A prior of pA that is learned from other images."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import betaln

from bench.certify.arena.evidence import Floats

VOTES = np.array([50, 70, 80, 90, 95, 98, 99, 100])  # selection votes that have their own prior
_COUNTED = 1000  # draws to which each pA is rounded, so that pA = 1 has a likelihood


def fit_beta(p: Floats) -> tuple[float, float]:
    """The Beta(a, b) of the greatest beta-binomial likelihood of `round(1000 p)` hits in 1,000 draws of each image."""
    hits = np.round(_COUNTED * p)

    def loss(logs: Floats) -> float:
        a, b = np.exp(logs)
        return float(-(betaln(hits + a, _COUNTED - hits + b) - betaln(a, b)).sum())

    a, b = np.exp(minimize(loss, np.zeros(2), method="Nelder-Mead").x)
    return float(a), float(b)
