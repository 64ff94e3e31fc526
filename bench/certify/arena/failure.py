"""How often a claimed bound of pA exceeds pA, at the pA where that is most probable.

A rule is wrong if it ever proves a threshold `t >= pA`. Boundaries increase with t, so the worst pA lies just below
some threshold, where the probability is that of ever reaching its boundary. It is computed exactly by the recursion of
`bench.certify.boundaries`, except for learned priors, which have too many boundaries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincc, betainccinv, ndtr

from bench.certify.arena.contenders import Proof
from bench.certify.arena.evidence import fewest_hits
from bench.certify.arena.paths import SELECTION, decide
from bench.certify.boundaries import crossing_probability

_ALSO = ndtr(np.arange(0, 4.01, 0.25))  # thresholds at which rules that claim any radius are tried, too
_RUNS = 2000
_Z = 2.5758  # of an interval at 99 %


@dataclass(frozen=True)
class Failure:
    """A probability of error: exact, or simulated with an interval at 99 %."""

    rate: float
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        if self.interval is None:
            return f"{self.rate:.6f}"
        return f"{self.rate:.6f} [{self.interval[0]:.6f}, {self.interval[1]:.6f}]"


def failure(proof: Proof, seed: int = 0) -> Failure:
    """The largest probability over pA of ever proving too much within the horizon."""
    if proof.learned:
        tried = [_simulated(proof, int(j), seed) for j in np.flatnonzero(proof.alive)]
        return max(tried, key=lambda found: found.rate)
    t = np.union1d(proof.thresholds[proof.alive], _ALSO)
    upper = fewest_hits(proof.evidence, t, proof.looks, proof.alpha, *proof.priors)[0]
    return Failure(float(crossing_probability(t, proof.looks, upper).max()))


def _simulated(proof: Proof, j: int, seed: int) -> Failure:
    """The probability of reaching the boundary of radius j at `pA = t_j`, by importance sampling.

    The evidence of an e-process is a likelihood ratio. Paths drawn under its mixture reach the boundary almost always,
    and the mean of one over the evidence there is the probability under `t_j` (the change of measure of Siegmund 1976).
    """
    rng, t = np.random.default_rng([seed, j]), float(proof.thresholds[j])
    rows = proof.rows(rng.integers(len(proof.images.p), size=_RUNS), rng.binomial(SELECTION, t, size=_RUNS))
    a, b = (prior[rows] for prior in proof.priors)
    p = betainccinv(a, b, betaincc(a, b, t) * rng.random(_RUNS))  # from the prior, restricted to (t, 1)
    steps = np.diff(proof.looks, prepend=0)
    hits = np.cumsum(rng.binomial(steps, p[:, None]), axis=1)
    _, crossed = decide(hits, proof.upper[:, j : j + 1], None, rows)
    first = (hits >= proof.upper[rows, j]).argmax(axis=1)
    at = hits[np.arange(_RUNS), first], proof.looks[first]
    weight = np.where(crossed[:, 0], np.exp(-proof.evidence.against(t, *at, a, b)), 0.0)
    rate, half = float(weight.mean()), _Z * float(weight.std()) / math.sqrt(_RUNS)
    return Failure(rate, (max(0.0, rate - half), rate + half))
