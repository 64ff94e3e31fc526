"""The sequential rules of the arena, ours and the field's, as boundaries on common paths."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from bench.certify.arena.evidence import Evidence, Floats, Ints, fewest_hits, lower_bound, union_epochs
from bench.certify.arena.learned import VOTES, fit_beta
from bench.certify.arena.paths import SELECTION, Images, Paths, decide, dense_looks
from bench.certify.boundaries import PRESETS, Boundaries, boundaries, give_up_hits, relative_price
from bench.certify.sequential import fine_family, promising

_BOUNDED = 10  # runs of each image whose bound is computed: it takes most of the time, and the average needs no more


@dataclass(frozen=True, eq=False)
class Outcomes:
    """What a rule did in R runs: its estimation `draws [R]`, the radii `proved [R,J]`, and the certified `radius [R]`.

    Radii that are not computed are NaN.
    """

    draws: Ints
    proved: NDArray[np.bool_]
    radius: Floats


@dataclass(frozen=True, eq=False)
class GroupSequential:
    """A preset of `bench.certify.Sequential` on the radii of the images.

    Attributes:
        preset: a key of `bench.certify.boundaries.PRESETS`.
    """

    images: Images
    alpha: float
    preset: str

    @cached_property
    def rule(self) -> Boundaries:
        """Its boundaries."""
        worth, radii = PRESETS[self.preset].worth, self.images.radii
        family = fine_family(radii, self.images.sigma) if worth else radii
        return boundaries(self.images.sigma, family, self.alpha, PRESETS[self.preset])

    @property
    def looks(self) -> Ints:
        """Numbers of draws at which it looks."""
        return self.rule.looks

    def play(self, paths: Paths) -> Outcomes:
        """Apply the rule to paths."""
        b, hits = self.rule, paths.hits[:, np.searchsorted(paths.looks, self.looks)]
        if PRESETS[self.preset].worth:
            stop, count = self._play_for_worth(hits)
        else:
            stop, proved = decide(hits, b.upper[b.alive], b.give_up[b.alive])
            count = proved.sum(axis=1)  # boundaries increase with the radius, so smaller radii are proved, too
        claimed = np.concatenate([[-1.0], b.radii])[count]
        draws = np.concatenate([[0], b.looks])[stop + 1]
        return Outcomes(draws, claimed[:, None] >= np.asarray(self.images.radii), np.maximum(claimed, 0))

    def _play_for_worth(self, hits: Ints) -> tuple[Ints, Ints]:
        """The last look `[R]` and the number of proved radii `[R]` of a rule that stops by worth."""
        b, worth = self.rule, PRESETS[self.preset].worth
        count, stop = np.zeros(len(hits), dtype=np.int64), np.full(len(hits), len(b.looks) - 1)
        top, running = np.count_nonzero(b.alive), np.arange(len(hits))
        for k in range(len(b.looks)):
            now = hits[running, k]
            count[running] = np.maximum(count[running], np.searchsorted(b.upper[b.alive, k], now, side="right"))
            states, inverse = np.unique(np.stack([now, count[running]]), axis=1, return_inverse=True)
            promises = [promising(b, self.images.sigma, worth, k, int(h), int(c)) for h, c in states.T]
            going = np.array(promises, dtype=np.bool_)[inverse.ravel()] & (count[running] < top)
            stop[running[~going]] = k
            running = running[going]
        return stop, count


@dataclass(frozen=True, eq=False)
class Proof:
    """The upper boundaries of a confidence sequence or e-process on the radii of the images.

    Attributes:
        evidence: of `pA > t`.
        horizon: draws at which a run ends at the latest.
        learned: whether the prior is learned from the other half of the images and from the selection votes.
    """

    images: Images
    alpha: float
    evidence: Evidence
    horizon: int
    learned: bool = False

    @cached_property
    def looks(self) -> Ints:
        """Numbers of draws at which the rule looks."""
        return np.union1d(dense_looks(self.horizon), union_epochs(self.horizon + 1))

    @cached_property
    def thresholds(self) -> Floats:
        """`t = Phi(r / sigma)` of each radius."""
        return np.asarray(ndtr(np.array(self.images.radii) / self.images.sigma))

    @cached_property
    def priors(self) -> tuple[Floats, Floats]:
        """`a` and `b` of the Beta prior `[S]`: that of the rule (S = 1), or one for each half and number of votes.

        A learned prior is the distribution of pA given the selection votes of the image: Beta(a + votes, b + misses),
        where Beta(a, b) is fitted to the other half. Both are independent of the estimation draws.
        """
        if not self.learned:
            return np.array([self.evidence.a]), np.array([self.evidence.b])
        p, half = self.images.p, self.images.half
        fits = np.array([fit_beta(p[half != h]) for h in (0, 1)])
        return (fits[:, :1] + VOTES).ravel(), (fits[:, 1:] + SELECTION - VOTES).ravel()

    @cached_property
    def upper(self) -> Ints:
        """Hits `[S,J,K]` that prove each radius; `looks + 1` if none do."""
        return fewest_hits(self.evidence, self.thresholds, self.looks, self.alpha, *self.priors)

    @cached_property
    def alive(self) -> NDArray[np.bool_]:
        """Radii `[J]` that can be proved within the horizon."""
        return np.asarray((self.upper <= self.looks).any(axis=(0, 2)))

    def rows(self, image: Ints, votes: Ints) -> Ints:
        """The row of `priors` of each run `[R]`, by its image and its selection votes."""
        if not self.learned:
            return np.zeros(len(image), dtype=np.int64)
        level = np.maximum(np.searchsorted(VOTES, votes, side="right") - 1, 0)
        return self.images.half[image] * len(VOTES) + level


@dataclass(frozen=True, eq=False)
class Anytime:
    """A proof and the time at which a run ends.

    Attributes:
        ending: `grid`: when every radius is proved, or disproved by the same evidence at the same alpha; `price`: when
            every radius is proved, or given up as `tight` gives up; `horizon`: at the horizon.
    """

    proof: Proof
    ending: str

    @property
    def looks(self) -> Ints:
        """Numbers of draws at which the rule looks."""
        return self.proof.looks

    @cached_property
    def lower(self) -> Ints | None:
        """Hits `[S,J,K]` at which each radius is given up."""
        proof = self.proof
        if self.ending == "horizon":
            return None
        if self.ending == "grid":
            below = 1 - proof.thresholds[::-1]
            misses = fewest_hits(proof.evidence, below, proof.looks, proof.alpha, *proof.priors[::-1])
            return proof.looks - misses[:, ::-1]
        price = relative_price(proof.thresholds, PRESETS["tight"].up_to(proof.horizon))
        given_up = [give_up_hits(last, proof.looks, price) for last in proof.upper[:, :, -1]]
        return np.maximum.accumulate(np.array(given_up), axis=1)

    def play(self, paths: Paths) -> Outcomes:
        """Apply the rule to paths. The claim is the larger of the proved radius and the bound at the last look."""
        proof, alive, columns = self.proof, self.proof.alive, np.searchsorted(paths.looks, self.looks)
        rows = proof.rows(paths.image, paths.votes)
        each = rows if proof.learned else None
        upper, lower = (
            None if x is None else x[:, alive] if proof.learned else x[0, alive] for x in (proof.upper, self.lower)
        )
        assert upper is not None
        stop, reached = decide(paths.hits[:, columns], upper, lower, each)
        proved = np.zeros((len(stop), len(alive)), dtype=np.bool_)
        proved[:, alive] = reached
        claims = np.isfinite(proof.evidence.level(self.looks, proof.alpha))  # the union bound claims at its epochs
        last = np.maximum.accumulate(np.where(claims, np.arange(len(claims)), 0))[stop]
        some = np.flatnonzero(paths.run < _BOUNDED)
        hits = paths.hits[some, columns[last[some]]]
        state, inverse = np.unique(np.stack([hits, self.looks[last[some]], rows[some]]), axis=1, return_inverse=True)
        a, b = (prior[state[2]] for prior in proof.priors)
        radius = np.full(len(stop), np.nan)
        radius[some] = (
            proof.images.sigma * lower_bound(proof.evidence, state[0], state[1], proof.alpha, a, b)[inverse.ravel()]
        )
        grid = np.where(proved, proof.images.radii, 0.0).max(axis=1)
        return Outcomes(self.looks[stop], proved, np.maximum(grid, radius))
