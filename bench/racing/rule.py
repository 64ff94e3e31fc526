"""The draws that a race asks for: those of the preset's rule, until an image's verdict at one radius is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bench.certify import Certifier, FixedN, Request, Requesting, Sequential, Tally

_FIRST = 10  # estimation draws after which a rule of fixed N is asked first; later looks double
_STEP = 4  # factor from one ceiling to the next


@dataclass(frozen=True)
class RacedRule(Requesting):
    """Asks for draws of an image until a rule's verdict at `radius` is known, or `ceiling` estimation draws are made.

    A race so makes a part of the draws of the full rule, and no others. Selection comes first, because it settles the
    images whose selected class is wrong. A rule of fixed N asks for all of its draws at once; they are cut at 10, 20,
    40, ... draws, where the verdict may be known. Counts do not depend on how draws are cut.
    """

    rule: Certifier
    radius: float
    ceiling: int

    def missing(self, tally: Tally) -> list[Request]:
        """The next draws of the rule; empty if the verdict is known or the ceiling is reached."""
        if self.rule.reaches(tally, self.radius) is not None:
            return []
        requests = self.rule.missing(tally)
        selection = [r for r in requests if r.stage == "select"]
        if selection or not requests:
            return selection
        if self.rule.identity:  # the draws up to the next look of a sequential rule, which belong together
            return requests if requests[-1].first + requests[-1].draws <= self.ceiling else []
        look = _FIRST
        while look <= requests[0].first:
            look *= 2
        end = min(look, self.ceiling)
        return [replace(r, draws=min(r.draws, end - r.first)) for r in requests if r.first < end]


def ceilings(rule: Certifier, radius: float) -> tuple[int, ...]:
    """Most estimation draws of an image, at each level of a race; the last is that of the rule.

    A rule of fixed N has one level: it certifies nothing before most of its draws are made. A sequential rule proves a
    radius with few draws if they all hit; the first level is four times as many, and each later one four times more.
    """
    if isinstance(rule, FixedN):
        return (rule.n,)
    assert isinstance(rule, Sequential), "there are two kinds of rules"
    b = rule.boundaries
    needed = int((b.radii < radius).sum())
    looks = [int(n) for n in b.looks]
    proving = [n for n, upper in zip(looks, b.upper[needed], strict=True) if upper <= n]
    levels = [_STEP * (proving[0] if proving else looks[0])]
    while levels[-1] < looks[-1]:
        levels.append(_STEP * levels[-1])
    return (*levels[:-1], looks[-1])


def verdict(rule: Certifier, radius: float, tally: Tally) -> tuple[float, float]:
    """The bounds of an image's certified accuracy at a radius: (1, 1), (0, 0), or (0, 1) while it is not known."""
    known = rule.reaches(tally, radius)
    return (0.0, 1.0) if known is None else (float(known), float(known))
