"""Certifiers with a fixed number of draws per image: Cohen's rule, and other bounds on the same counts.

They differ only in the bound, so each of them can read counts that were made for another.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from bench.certify.base import Request, Tally, gaps
from bench.certify.bounds import (
    anytime_lower,
    certified_radius,
    clopper_pearson_lower,
    clopper_pearson_upper,
    e_process_lower,
    randomised_lower,
)
from bench.errors import InputError
from bench.records import Certificate, Stage


class _Claim(NamedTuple):
    """Bounds of the selected class's probability, and the certified radius (0: abstain)."""

    p_lower: float
    radius: float
    p_upper: float = 1.0


def _binary(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> _Claim:
    """Cohen, Rosenfeld, Kolter (2019), CERTIFY: a lower bound of pA; the runner-up has at most `1 - pA`."""
    p = clopper_pearson_lower(votes[choice], sum(votes), alpha)
    return _Claim(p, certified_radius(p, sigma))


def _two_sided(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> _Claim:
    """Both bounds of pA, each at alpha / 2 (Bonferroni). `p_upper` limits the radius that more draws could certify."""
    hits, draws = votes[choice], sum(votes)
    p = clopper_pearson_lower(hits, draws, alpha / 2)
    return _Claim(p, certified_radius(p, sigma), clopper_pearson_upper(hits, draws, alpha / 2))


def _multi_class(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> _Claim:
    """`sigma / 2 (Phi^-1(pA) - Phi^-1(pB))` (Cohen et al. 2019, Theorem 1), with an upper bound of the runner-up pB.

    Bonferroni: alpha / 2 for pA, and alpha / 2 shared by the K - 1 other classes, because the same counts choose the
    runner-up. `pB <= 1 - pA` holds on the same event and needs no alpha of its own.
    """
    from scipy.special import ndtri

    draws = sum(votes)
    p = clopper_pearson_lower(votes[choice], draws, alpha / 2)
    others = [count for k, count in enumerate(votes) if k != choice]
    runner_up = clopper_pearson_upper(max(others), draws, alpha / 2 / len(others)) if others else 1.0
    runner_up = min(runner_up, 1 - p)
    return _Claim(p, sigma / 2 * float(ndtri(p) - ndtri(runner_up)) if p > runner_up else 0.0)


def _randomised(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> _Claim:
    """Cohen's rule with the randomised bound (Stevens 1950), whose error probability is exactly alpha."""
    p = randomised_lower(votes[choice], sum(votes), alpha, uniform)
    return _Claim(p, certified_radius(p, sigma))


def _anytime(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> _Claim:
    """Cohen's rule with a bound valid at all N simultaneously (Robbins 1970), so `n` may grow after looking."""
    p = anytime_lower(votes[choice], sum(votes), alpha)
    return _Claim(p, certified_radius(p, sigma))


def _e_process(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> _Claim:
    """As `anytime`, with a prior for each threshold, which makes the bound higher."""
    p = e_process_lower(votes[choice], sum(votes), alpha)
    return _Claim(p, certified_radius(p, sigma))


BOUNDS: dict[str, Callable[[Sequence[int], int, float, float, float], _Claim]] = {
    "cohen": _binary,
    "two-sided": _two_sided,
    "multi-class": _multi_class,
    "randomised": _randomised,
    "anytime": _anytime,
    "e-process": _e_process,
}


@dataclass(frozen=True)
class FixedN:
    """CERTIFY of Cohen, Rosenfeld, Kolter (2019): `n0` draws select the class, `n` fresh draws bound its probability.

    Parameters:
        sigma: standard deviation of the smoothing noise, in [0,1] pixel units.
        n0, n: draws of selection and estimation. Fix `n` before looking at counts, except with `anytime`, `e-process`.
        alpha: probability that a certificate is wrong, at most.
        block: draws that are sent and stored together.
        bound: a key of `BOUNDS`.
        seed: for `randomised`; (seed, image) fix its uniform number, independently of all noise.
        digits: significant digits of the radii; None keeps full precision. Published logs keep three, which rounds
            about half of the radii up beyond the certified value.
    """

    sigma: float
    n0: int
    n: int
    alpha: float
    block: int = 100
    bound: str = "cohen"
    seed: int = 0
    digits: int | None = None

    @cached_property
    def rule(self) -> str:
        """The rule and its constants, for reports."""
        rounded = f", radii rounded to {self.digits} digits" if self.digits else ""
        return f"{self.bound} (N0 = {self.n0}, N = {self.n}, alpha = {self.alpha:g}{rounded})"

    @property
    def identity(self) -> str:
        """Empty, because the number of draws does not depend on the counts: every rule of fixed N may read them."""
        return ""

    @property
    def largest(self) -> float:
        """The largest radius that `n` draws can certify: every draw hits (two classes)."""
        return self._rounded(BOUNDS[self.bound]((self.n, 0), 0, self.sigma, self.alpha, 0.0).radius)

    def missing(self, tally: Tally) -> list[Request]:
        """Draws still missing in both stages; the stages are independent of each other."""
        requests: list[Request] = []
        stages: tuple[tuple[Stage, int], ...] = (("select", self.n0), ("estimate", self.n))
        for stage, total in stages:
            done, _ = tally.uninterrupted(stage, total)
            requests += gaps(getattr(tally, stage), stage, done, total, self.block)
        return requests

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate, which abstains if the radius is 0; None while draws are missing."""
        selected, choice_votes = tally.uninterrupted("select", self.n0)
        draws, votes = tally.uninterrupted("estimate", self.n)
        if selected < self.n0 or draws < self.n:
            return None
        top = max(range(len(choice_votes)), key=choice_votes.__getitem__)
        claim = BOUNDS[self.bound](votes, top, self.sigma, self.alpha, self._uniform(tally))
        predicted = top if claim.radius > 0 else None
        return Certificate(predicted, draws, claim.p_lower, self._rounded(claim.radius), self.rule, claim.p_upper)

    def reaches(self, tally: Tally, radius: float) -> bool | None:
        """See `Certifier.reaches`: the certificate if every missing draw hits, and if all go to the strongest rival.

        Radii increase with the votes for the selected class and decrease with those for the runner-up.
        """
        selected, choice_votes = tally.uninterrupted("select", self.n0)
        if selected < self.n0:
            return None
        top = max(range(len(choice_votes)), key=choice_votes.__getitem__)
        if top != tally.label:
            return False
        draws, counted = tally.uninterrupted("estimate", self.n)
        votes = list(counted or [0] * len(choice_votes))
        rival = max((k for k in range(len(votes)) if k != top), key=votes.__getitem__, default=top)
        uniform = self._uniform(tally)

        def reached(beneficiary: int) -> bool:
            """Whether the certificate reaches the radius if all missing draws vote for one class."""
            full = [count + (self.n - draws) * (k == beneficiary) for k, count in enumerate(votes)]
            claim = BOUNDS[self.bound](full, top, self.sigma, self.alpha, uniform)
            return claim.radius > 0 and self._rounded(claim.radius) >= radius

        if not reached(top):
            return False
        return True if reached(rival) else None

    def _rounded(self, radius: float) -> float:
        return float(f"{radius:.{self.digits}g}") if self.digits else radius

    def _uniform(self, tally: Tally) -> float:
        if self.bound != "randomised":
            return 1.0
        if tally.image is None:
            raise InputError("the randomised rule needs the image's index, which fixes its uniform number")
        digest = hashlib.sha256(f"{self.seed}/randomised bound/{tally.image}".encode()).digest()
        return int.from_bytes(digest[:7], "little") / 2**56
