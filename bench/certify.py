"""Bounds and certifiers: pure functions of counts. Nothing here draws, and nothing here is ever redone.

A certifier is a state machine over the counts of one image: `missing` says which draws it still needs, `certify`
reads the certificate off once it needs none. A rule that stops early and the fixed-N rule of Cohen et al. differ in
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol

from bench.types import Certificate, Stage


@lru_cache(maxsize=65536)
def clopper_pearson_lower(hits: int, draws: int, alpha: float) -> float:
    """One-sided lower confidence bound of a binomial probability at level `1 - alpha` (Clopper, Pearson 1934).

    Equal to `scipy.stats.beta.ppf(alpha, hits, draws - hits + 1)`; 0 where there are no hits.
    """
    if not 0 <= hits <= draws:
        raise ValueError(f"hits must lie between 0 and draws, got {hits} of {draws}")
    from scipy.special import betaincinv  # half a second to import, which a refusal need not wait for

    return float(betaincinv(hits, draws - hits + 1, alpha)) if hits else 0.0


def certified_radius(p_lower: float, sigma: float) -> float:
    """`sigma Phi^-1(p_lower)`, in full precision (Cohen et al. 2019, Theorem 1); 0 where `p_lower <= 1/2`."""
    from scipy.special import ndtri

    return sigma * float(ndtri(p_lower)) if p_lower > 0.5 else 0.0


def largest_radius(draws: int, alpha: float, sigma: float) -> float:
    """The radius when every draw hits: no certificate of this many draws reaches further."""
    return certified_radius(clopper_pearson_lower(draws, draws, alpha), sigma)


@dataclass(frozen=True)
class Request:
    """Draws `first` to `first + draws - 1` of a stage."""

    stage: Stage
    first: int
    draws: int


@dataclass(frozen=True)
class Tally:
    """What has been counted of one image: votes by stage, as `{first draw: votes per class}`."""

    select: Mapping[int, Sequence[int]] = field(default_factory=dict)
    estimate: Mapping[int, Sequence[int]] = field(default_factory=dict)

    def uninterrupted(self, stage: Stage, most: int) -> tuple[int, tuple[int, ...]]:
        """Draws counted without a gap from draw 0 and their votes, up to `most` draws.

        Raises:
            ValueError: a stored block crosses `most`, so that exactly `most` draws cannot be read from the counts.
        """
        blocks = getattr(self, stage)
        draws, votes = 0, None
        while draws < most and draws in blocks:
            block = blocks[draws]
            if not sum(block):
                raise ValueError(f"the stored block at draw {draws} of stage {stage} is empty; the results are damaged")
            draws += sum(block)
            votes = tuple(block) if votes is None else tuple(a + b for a, b in zip(votes, block, strict=True))
        if draws > most:
            raise ValueError(
                f"the stored counts join draws up to {draws} in one block, so they cannot be read at {most}; "
                f"ask for {draws}, or give another --out"
            )
        return draws, votes or ()


def gaps(stored: Mapping[int, Sequence[int]], stage: Stage, start: int, end: int, block: int) -> list[Request]:
    """Requests for the draws from `start` to `end` that are not stored, `block` at a time counted from `start`."""
    requests, draw = [], start
    while draw < end:
        if draw in stored:
            draw += max(1, sum(stored[draw]))
            continue
        stop = min(start + ((draw - start) // block + 1) * block, end)
        stop = min([stop, *(first for first in range(draw + 1, stop) if first in stored)])
        requests.append(Request(stage, draw, stop - draw))
        draw = stop
    return requests


class Certifier(Protocol):
    """A rule that turns the counts of one image into a certificate, for smoothing noise of one `sigma`."""

    @property
    def rule(self) -> str:
        """The rule and its constants, as a report names it."""
        ...

    @property
    def identity(self) -> str:
        """What of the rule is part of a cell's identity: "" where counts mean the same under any such rule.

        Counts that one stopping rule has ended must not be read, or continued, by another.
        """
        ...

    @property
    def largest(self) -> float:
        """The largest radius that the rule can prove."""
        ...

    def missing(self, tally: Tally) -> list[Request]:
        """Draws that can be made now and are still needed; empty when the image is decided."""
        ...

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate, or None while draws are missing."""
        ...


@dataclass(frozen=True)
class Cohen:
    """CERTIFY of Cohen, Rosenfeld, Kolter (2019): `n0` draws choose the class, `n` fresh ones bound its probability.

    Parameters:
        sigma: of the smoothing noise, in [0,1] pixel units.
        n0, n: draws of selection and estimation.
        alpha: probability that a certificate is wrong.
        block: draws that travel and are stored together.
    """

    sigma: float
    n0: int
    n: int
    alpha: float
    block: int = 100

    @property
    def rule(self) -> str:
        return f"cohen (N0 = {self.n0}, N = {self.n}, alpha = {self.alpha:g})"

    @property
    def identity(self) -> str:
        return ""

    @property
    def largest(self) -> float:
        return largest_radius(self.n, self.alpha, self.sigma)

    def missing(self, tally: Tally) -> list[Request]:
        wanted: list[Request] = []
        stages: tuple[tuple[Stage, int], ...] = (("select", self.n0), ("estimate", self.n))
        for stage, total in stages:
            done, _ = tally.uninterrupted(stage, total)
            wanted += gaps(getattr(tally, stage), stage, done, total, self.block)
        return wanted

    def certify(self, tally: Tally) -> Certificate | None:
        selected, choice = tally.uninterrupted("select", self.n0)
        draws, votes = tally.uninterrupted("estimate", self.n)
        if selected < self.n0 or draws < self.n:
            return None
        top = max(range(len(choice)), key=choice.__getitem__)
        p_lower = clopper_pearson_lower(votes[top], draws, self.alpha)
        radius = certified_radius(p_lower, self.sigma)
        return Certificate(top if p_lower > 0.5 else None, draws, p_lower, radius, self.rule)
