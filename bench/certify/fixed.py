"""Certifiers that draw as many times for every image: Cohen's rule, and other bounds on the same counts.

They differ in how they read the counts and in nothing else, so any of them can read what was counted for another.
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
    randomised_lower,
)
from bench.records import Certificate, Stage


class Claim(NamedTuple):
    """What estimation votes prove of the selected class: bounds of its probability, and the radius (0: nothing)."""

    p_lower: float
    radius: float
    p_upper: float = 1.0


def binary(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> Claim:
    """Cohen, Rosenfeld, Kolter (2019): pA bounded from below, the runner-up has `1 - pA` at most."""
    p = clopper_pearson_lower(votes[choice], sum(votes), alpha)
    return Claim(p, certified_radius(p, sigma))


def two_sided(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> Claim:
    """pA bounded from both sides, each at alpha / 2: no number of draws would certify beyond `p_upper`."""
    hits, draws = votes[choice], sum(votes)
    p = clopper_pearson_lower(hits, draws, alpha / 2)
    return Claim(p, certified_radius(p, sigma), clopper_pearson_upper(hits, draws, alpha / 2))


def multi_class(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> Claim:
    """`sigma / 2 (Phi^-1(pA) - Phi^-1(pB))` (Cohen et al. 2019, Theorem 1), the runner-up pB bounded over all classes.

    Bonferroni: alpha / 2 for pA, the other half shared by the K - 1 other classes, since the counts themselves say
    which of them is the runner-up. `pB <= 1 - pA` holds on the same event.
    """
    from scipy.special import ndtri

    draws = sum(votes)
    p = clopper_pearson_lower(votes[choice], draws, alpha / 2)
    others = [count for k, count in enumerate(votes) if k != choice]
    runner_up = clopper_pearson_upper(max(others), draws, alpha / 2 / len(others)) if others else 1.0
    runner_up = min(runner_up, 1 - p)
    return Claim(p, sigma / 2 * float(ndtri(p) - ndtri(runner_up)) if p > runner_up else 0.0)


def randomised(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> Claim:
    """Cohen's rule with the randomised bound, which errs with probability alpha exactly (Stevens 1950)."""
    p = randomised_lower(votes[choice], sum(votes), alpha, uniform)
    return Claim(p, certified_radius(p, sigma))


def anytime(votes: Sequence[int], choice: int, sigma: float, alpha: float, uniform: float) -> Claim:
    """Holds at all N together (Robbins 1970): draw more after looking, as often as you like."""
    p = anytime_lower(votes[choice], sum(votes), alpha)
    return Claim(p, certified_radius(p, sigma))


BOUNDS: dict[str, Callable[[Sequence[int], int, float, float, float], Claim]] = {
    "cohen": binary,
    "two-sided": two_sided,
    "multi-class": multi_class,
    "randomised": randomised,
    "anytime": anytime,
}


@dataclass(frozen=True)
class FixedN:
    """CERTIFY of Cohen, Rosenfeld, Kolter (2019): `n0` draws choose the class, `n` fresh ones bound its probability.

    Parameters:
        sigma: of the smoothing noise, in [0,1] pixel units.
        n0, n: draws of selection and estimation. Choose `n` before you look, except under `anytime`.
        alpha: probability that a certificate is wrong.
        block: draws that travel and are stored together.
        bound: a name of `BOUNDS`.
        seed: of `randomised`, whose uniform number is fixed by (seed, image) and independent of all noise.
        digits: significant digits of the radii. None keeps all; published logs keep three, which rounds every second
            radius up past what was certified.
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
        """The rule and its constants, as a report names it."""
        rounded = f", radii rounded to {self.digits} digits" if self.digits else ""
        return f"{self.bound} (N0 = {self.n0}, N = {self.n}, alpha = {self.alpha:g}{rounded})"

    @property
    def identity(self) -> str:
        """Nothing: the draws do not depend on what was counted, so their counts mean the same under any such rule."""
        return ""

    @property
    def largest(self) -> float:
        """The radius when every draw hits (two classes): no certificate of this many draws reaches further."""
        return self._written(BOUNDS[self.bound]((self.n, 0), 0, self.sigma, self.alpha, 0.0).radius)

    def missing(self, tally: Tally) -> list[Request]:
        """What is not drawn yet of both stages; neither waits for the other."""
        wanted: list[Request] = []
        stages: tuple[tuple[Stage, int], ...] = (("select", self.n0), ("estimate", self.n))
        for stage, total in stages:
            done, _ = tally.uninterrupted(stage, total)
            wanted += gaps(getattr(tally, stage), stage, done, total, self.block)
        return wanted

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate; abstains where nothing is proved."""
        selected, choice = tally.uninterrupted("select", self.n0)
        draws, votes = tally.uninterrupted("estimate", self.n)
        if selected < self.n0 or draws < self.n:
            return None
        top = max(range(len(choice)), key=choice.__getitem__)
        claim = BOUNDS[self.bound](votes, top, self.sigma, self.alpha, self._uniform(tally))
        predicted = top if claim.radius > 0 else None
        return Certificate(predicted, draws, claim.p_lower, self._written(claim.radius), self.rule, claim.p_upper)

    def _written(self, radius: float) -> float:
        return float(f"{radius:.{self.digits}g}") if self.digits else radius

    def _uniform(self, tally: Tally) -> float:
        if self.bound != "randomised":
            return 1.0
        if tally.image is None:
            raise ValueError("the randomised rule needs the image's number, which fixes its uniform number")
        digest = hashlib.sha256(f"{self.seed}/randomised bound/{tally.image}".encode()).digest()
        return int.from_bytes(digest[:7], "little") / 2**56
