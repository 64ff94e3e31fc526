"""Rules with one number of draws, or with a few stages: Cohen's rule, input-specific sampling, adaptive sampling."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy.special import betainc, betaincinv, ndtr, ndtri
from scipy.stats import binom

from bench.certify.arena.contenders import Outcomes
from bench.certify.arena.evidence import Floats, Ints
from bench.certify.arena.failure import Failure
from bench.certify.arena.paths import SELECTION, Images

_PLANNED = np.round(0.5 + 0.001 * np.arange(501), 3)[:, None]  # pA for which sampling is planned


def needed_hits(t: Floats, n: Ints | int, alpha: float) -> Ints:
    """The fewest hits in `n` draws whose Clopper-Pearson bound reaches t; `n + 1` if none does."""
    return np.asarray(binom.isf(alpha, n, t) + 1).astype(np.int64)


def cohen(images: Images, n: int, alpha: float) -> tuple[Floats, Floats]:
    """Cohen, Rosenfeld, Kolter (2019), CERTIFY: probability `[M,J]` of proving each radius, and mean radius `[M]`.

    Both are exact: sums over all counts.
    """
    t, p = ndtr(np.asarray(images.radii) / images.sigma), images.p[:, None]
    proved = binom.sf(needed_hits(t, n, alpha) - 1, n, p)
    low = n // 2 + 1  # with fewer hits the radius is 0
    counts = np.arange(low, n + 1)
    table = images.sigma * np.maximum(ndtri(betaincinv(counts, n - counts + 1, alpha)), 0)
    spread = np.ceil(9 * np.sqrt(n * p * (1 - p)).max() + 40)
    hits = np.round(n * p) + np.arange(-spread, spread + 1)
    inside = (hits >= low) & (hits <= n)
    law = np.where(inside, binom.pmf(hits, n, p), 0.0)
    radius = table[np.where(inside, hits, low).astype(np.int64) - low]
    return proved, (law * radius).sum(axis=1)


@lru_cache(maxsize=4)
def _planned(full: int, batch: int, alpha: float) -> Floats:
    """`Phi^-1` of the Clopper-Pearson bound of each of `_PLANNED`, by number of batches `[501, full / batch]`."""
    n = batch * np.arange(1, full // batch + 1)
    return np.asarray(ndtri(betaincinv(n * _PLANNED, n * (1 - _PLANNED) + 1, alpha)))


@dataclass(frozen=True, eq=False)
class InputSpecific:
    """Input-specific sampling (Chen, Li, Yan, Li, Sheng, AAAI 2022), after the authors' certify_iss.py.

    A pilot of draws bounds pA from both sides. A table, made beforehand, gives the number of batches that keeps the
    radius within `loss` of the radius of the full number, at the worse end of the interval. The pilot's draws count
    among those of the certificate, as in the authors' code; its class comes from the selection draws of all rules.

    Attributes:
        loss: largest planned loss of radius, absolute.
        full, pilot, batch: draws; as in the authors' script for CIFAR-10.
    """

    images: Images
    alpha: float
    loss: float
    full: int = 100_000
    pilot: int = 2000
    batch: int = 200

    @cached_property
    def plan(self) -> Ints:
        """Draws `[pilot + 1]` for each number of hits of the pilot; 0 means abstain."""
        z = _planned(self.full, self.batch, self.alpha)
        target = z[:, -1:] - self.loss / self.images.sigma
        batches = np.maximum.accumulate(np.where(target[:, 0] > 0, (z >= target).argmax(axis=1) + 1, 0))
        batches = np.where(target[:, 0] > 0, batches, 0)
        hits = np.arange(self.pilot + 1)
        low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), self.pilot - hits + 1, self.alpha / 2), 0.0)
        left = np.maximum(self.pilot - hits, 1)
        high = np.where(hits < self.pilot, 1 - betaincinv(left, self.pilot - left + 1, self.alpha / 2), 1.0)
        ends = []
        for bound in (low, high):
            i = np.minimum(np.searchsorted(_PLANNED[:, 0], bound), len(_PLANNED) - 1)
            ends.append(np.maximum(batches[np.maximum(i - 1, 0)], batches[i]))
        draws = np.maximum(*ends) * self.batch
        return np.where(draws > 0, np.maximum(draws, self.pilot), 0)

    def play(self, image: Ints, rng: np.random.Generator) -> Outcomes:
        """Simulate runs of images `[R]`."""
        p = self.images.p[image]
        pilot = rng.binomial(self.pilot, p)
        n = self.plan[pilot]
        hits = pilot + rng.binomial(np.maximum(n - self.pilot, 0), p)
        bound = np.where(n > 0, betaincinv(np.maximum(hits, 1), np.maximum(n - hits, 0) + 1, self.alpha), 0.0)
        proved = (bound[:, None] >= ndtr(np.asarray(self.images.radii) / self.images.sigma)) & (bound[:, None] > 0.5)
        radius = self.images.sigma * np.maximum(ndtri(bound), 0)
        return Outcomes(np.maximum(n, self.pilot), proved, radius)

    def failure(self) -> Failure:
        """The largest exact probability of a bound above pA that a scan of pA finds.

        Reached just below the bounds that many counts share, so the scan takes pA just below bounds of the plan.
        """
        pilot = np.arange(self.pilot + 1)
        n = self.plan
        m = np.unique(n[n > 0])[::8, None]
        h = np.round(np.linspace(0.51, 1, 8) * m)
        scan = betaincinv(h, m - h + 1.0, self.alpha) - 1e-12
        return Failure(max(self._wrong(p, pilot, n) for p in np.unique(scan[scan > 0.5])))

    def _wrong(self, p: float, pilot: Ints, n: Ints) -> float:
        law = binom.pmf(pilot, self.pilot, p)
        likely = (law > 1e-12) & (n > 0)
        needed = needed_hits(np.array(p), n[likely], self.alpha) - pilot[likely]
        return float((law[likely] * binom.sf(needed - 1, n[likely] - self.pilot, p)).sum())


@dataclass(frozen=True, eq=False)
class AdaptiveSampling:
    """Adaptive sampling (Horvath, Mueller, Fischer, Vechev, ICLR 2022), after the authors' smooth_ensemble_adaptive.py.

    Each stage selects the class and counts anew. It proves radii by a Clopper-Pearson bound at alpha / stages, and
    gives up those above an upper bound at beta / (stages - 1). The authors decide one radius; here every stage decides
    all radii that are open, by the same two bounds, which costs no further alpha.

    Attributes:
        stages, beta: draws of each stage, and the probability of giving up wrongly: those of the authors' examples.
    """

    images: Images
    alpha: float
    stages: tuple[int, ...] = (1000, 10_000, 125_000)
    beta: float = 1e-4

    def play(self, image: Ints, rng: np.random.Generator) -> Outcomes:
        """Simulate runs of images `[R]`. Draws include the selections of the second and third stage."""
        t, p = ndtr(np.asarray(self.images.radii) / self.images.sigma), self.images.p[image]
        proved, top = np.zeros(len(p), dtype=np.int64), np.full(len(p), len(t))
        draws = np.full(len(p), -SELECTION)
        for n in self.stages:
            open_ = proved < top
            hits = rng.binomial(n, p)
            reached = np.searchsorted(needed_hits(t, n, self.alpha / len(self.stages)), hits, side="right")
            above = np.searchsorted(self._hopeless(t, n), hits, side="left")
            proved = np.where(open_, np.maximum(proved, np.minimum(reached, top)), proved)
            draws += np.where(open_, n + SELECTION, 0)
            top = np.where(open_, np.minimum(top, above), top)
        radius = np.concatenate([[0.0], self.images.radii])[proved]
        return Outcomes(draws, proved[:, None] > np.arange(len(t)), radius)

    def _hopeless(self, t: Floats, n: int) -> Ints:
        """The most hits `[J]` whose upper bound is below t."""
        level = self.beta / max(1, len(self.stages) - 1)
        return n - needed_hits(1 - t, n, level)

    def failure(self) -> Failure:
        """The probability that the bound of any stage exceeds pA, at the worst pA: exact if nothing is given up."""
        t = ndtr(np.asarray(self.images.radii) / self.images.sigma)
        holds = np.ones(len(t))
        for n in self.stages:
            x = needed_hits(t, n, self.alpha / len(self.stages))
            holds *= 1 - np.where(x <= n, betainc(np.minimum(x, n), n - np.minimum(x, n) + 1.0, t), 0.0)
        return Failure(float((1 - holds).max()))
