"""Where a race spends its draws, whom it drops, and when it ends. Pure: the draws come from a `Source`.

Successive elimination on shared images. Every round draws more images for the candidates that remain; only if undecided
images stand between the race and a decision are these drawn further. `bench.racing.betting` has the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from bench.racing.betting import log_evidence, threshold
from bench.store.races import Dropped, Ending, Race, RaceRound

FIRST = 20  # images of the first round, at least
_GROWTH = 1.1  # of the number of images from round to round
_CHALLENGERS = 3  # candidates with which every other one is compared: the highest so far

_Floats = NDArray[np.float64]


class Seen(NamedTuple):
    """What is known after a round.

    Attributes:
        low, high: `[K, images]`, bounds of the certified accuracy of each image: 0 or 1, and 0 to 1 if it is open.
            Fewer images than were asked for if the budget ended the round.
        draws, seconds: spent so far.
        over: the budget is spent.
        out: candidates that cannot go on, with the reason.
    """

    low: _Floats
    high: _Floats
    draws: int
    seconds: float
    over: bool = False
    out: Mapping[int, str] = {}


class Source(Protocol):
    """Draws for candidates, or looks up draws that were made before."""

    levels: int

    def look(self, candidates: Sequence[int], images: int, level: int) -> Seen:
        """Draw the first `images` images of some candidates up to a level, and return what is known of all."""


@dataclass
class _Field:
    """The candidates in a race, and what is known of them."""

    race: Race
    costs: Sequence[float]
    alive: list[int]
    seen: Seen = field(default_factory=lambda: Seen(np.empty((0, 0)), np.empty((0, 0)), 0, 0.0))

    @property
    def population(self) -> int:
        return len(self.race.order)

    @property
    def _needed(self) -> float:
        """Log evidence of a decision: half of the error is for dropping the best, half for claims about the margin."""
        return threshold(len(self.race.candidates) - 1, self.race.error / 2)

    def ranked(self) -> list[int]:
        """The remaining candidates, the highest first, and of equals the cheapest."""
        share = (self.seen.low + self.seen.high).sum(axis=1)
        return sorted(self.alive, key=lambda k: (-share[k], self.costs[k]))

    def beaten(self, low: _Floats, high: _Floats) -> dict[int, tuple[int, float]]:
        """Candidate -> the rival that is shown to certify more images, and the log evidence."""
        found: dict[int, tuple[int, float]] = {}
        for rival in self.ranked()[:_CHALLENGERS]:
            others = [k for k in self.alive if k != rival]
            evidence = log_evidence(low[rival] - high[others], self.population, 0.0)
            for k, value in zip(others, evidence, strict=True):
                if value >= max(self._needed, found.get(k, (k, 0.0))[1]):
                    found[k] = rival, float(value)
        return found

    def is_within(self, candidate: int, low: _Floats, high: _Floats) -> bool:
        """Whether no remaining candidate certifies more images than this one by the margin or more."""
        others = [k for k in self.alive if k != candidate]
        evidence = log_evidence(low[candidate] - high[others], self.population, -self.race.margin)
        return bool((evidence >= self._needed).all())

    def drop(self) -> list[Dropped]:
        """Drop the candidates that cannot go on or are beaten; returns them with the evidence."""
        keys, last = self.race.candidates, len(self.race.rounds)
        gone = [Dropped(keys[k], last, reason=why) for k, why in self.seen.out.items() if k in self.alive]
        self.alive = [k for k in self.alive if k not in self.seen.out]
        low, high = self.seen.low, self.seen.high
        beaten = self.beaten(low, high) if len(self.alive) > 1 else {}
        for k, (rival, evidence) in beaten.items():
            won = int((low[rival] > high[k]).sum())
            lost = int((high[rival] < low[k]).sum())
            undecided = int(((low[[rival, k]] < high[[rival, k]]).any(axis=0)).sum())
            p = min(1.0, (len(keys) - 1) * float(np.exp(-evidence)))
            gone.append(Dropped(keys[k], last, keys[rival], won, lost, undecided, p))
        self.alive = [k for k in self.alive if k not in beaten]
        return gone

    def draws_would_decide(self) -> bool:
        """Whether a decision is due if each open image counts as one half."""
        middle = (self.seen.low + self.seen.high) / 2
        open_images = (self.seen.low < self.seen.high)[self.alive].any()
        return bool(open_images) and (
            bool(self.beaten(middle, middle)) or self.is_within(self.ranked()[0], middle, middle)
        )

    def round(self, level: int) -> RaceRound:
        """The record of the round that has ended."""
        keys, seen = self.race.candidates, self.seen
        alive = sorted(self.alive) if seen.low.shape[1] else []
        standing = {keys[k]: (float(seen.low[k].mean()), float(seen.high[k].mean())) for k in alive}
        return RaceRound(seen.low.shape[1], level, seen.draws, seen.seconds, standing)


def run_race(
    race: Race,
    source: Source,
    costs: Sequence[float],
    observe: Callable[[Race], object] = lambda race: None,
) -> Race:
    """Race until one candidate is left, the rest are alike, or the budget is spent.

    With a probability of at least `1 - race.error`, whichever candidate is the best: it is not dropped, and if the race
    ends with one left or alike, the chosen one certifies less than it by less than the margin. The claim is about the
    full rule on the images of the preset, and about the random order of these images.

    Parameters:
        race: without rounds.
        source: of the candidates in the order of `race.candidates`, and of the images in the order of `race.order`.
        costs: of the candidates; of equals the cheapest is chosen.
        observe: called with the race after each round.

    Returns:
        The race with its rounds, its end and its answer.
    """
    f = _Field(race, costs, list(range(len(race.candidates))))
    images, level = min(FIRST, f.population), 0
    while True:
        f.seen = source.look(f.alive, images, level)
        standing = f.round(level)
        gone = f.drop()
        f.race = replace(f.race, rounds=[*f.race.rounds, standing], dropped=[*f.race.dropped, *gone])
        ended = _ending(f, exhausted=images == f.population and level + 1 == source.levels)
        if ended is None and f.seen.over:
            ended = "budget"
        if ended is not None:
            f.race = _answered(f, ended)
        observe(f.race)
        if ended is not None:
            return f.race
        if level + 1 < source.levels and (images == f.population or f.draws_would_decide()):
            level += 1
        else:
            images = min(f.population, max(images + FIRST // 2, round(images * _GROWTH)))


def _ending(f: _Field, exhausted: bool) -> Ending | None:
    """Why a race ends, if it does. `exhausted`: no draws of the full rule are left."""
    if len(f.alive) < 2:
        return "one" if f.alive else "failed"
    if f.is_within(f.ranked()[0], f.seen.low, f.seen.high):
        return "alike"
    return "all" if exhausted and not f.seen.over else None


def _answered(f: _Field, ended: Ending) -> Race:
    """The race with its end and its answer: the cheapest within the margin, or else the highest."""
    if not f.alive or not f.seen.low.shape[1]:
        return replace(f.race, ended=ended)
    ranked = f.ranked()
    within = [k for k in ranked if len(ranked) == 1 or f.is_within(k, f.seen.low, f.seen.high)]
    chosen = min(within, key=lambda k: (f.costs[k], ranked.index(k))) if within else ranked[0]
    keys = f.race.candidates
    return replace(f.race, ended=ended, chosen=keys[chosen], within=tuple(keys[k] for k in within))
