"""A race that draws: rounds of the sweep, on a part of its cells and images, until the race or its budget ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.certify import Certifier, Tally
from bench.errors import InputError
from bench.racing.allocation import Seen, run_race
from bench.racing.candidates import Limits, new_race, too_costly
from bench.racing.forecast import forecast
from bench.racing.rule import RacedRule, ceilings, verdict
from bench.records import Cell, Counts
from bench.store import read_run
from bench.store.races import RACE, Race, race_of
from bench.sweep import Observer, Outcome, Session, evaluations_of


@dataclass(frozen=True)
class Budget:
    """What a race may spend; None: as much as it takes.

    Attributes:
        draws: of the whole race, with those of selection, without those of checks and audits.
        minutes: of one command, with loading and checks, without the pictures.
        gpu_hours: the same, times the number of devices.
    """

    draws: int | None = None
    minutes: float | None = None
    gpu_hours: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) > 1:
            raise InputError("give one budget: minutes, GPU-hours or draws")
        if not all(0 < value < float("inf") for value in given.values()):
            raise InputError(f"a budget must be above 0, got {next(iter(given.values())):g}")

    @property
    def words(self) -> str:
        if self.draws is not None:
            return f"{self.draws:,} draws"
        unit, amount = ("minutes", self.minutes) if self.minutes is not None else ("GPU-hours", self.gpu_hours)
        return "no limit" if amount is None else f"{amount:g} {unit}"

    def over(self, draws: int, seconds: float, devices: int) -> bool:
        """Whether so many draws of the race, or seconds of the command, are too many."""
        limits = (self.draws, draws), (self.minutes, seconds / 60), (self.gpu_hours, seconds / 3600 * devices)
        return any(most is not None and spent >= most for most, spent in limits)


@dataclass
class _Spending(Observer):
    """Counts the draws of a round."""

    draws: int = 0

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        self.draws += sum(c.block.draws for c in counts)


@dataclass
class _Live:
    """A `Source` of a race that counts in a session of a sweep. Counts are stored as those of `bench run`.

    Attributes:
        earlier: the same race as an earlier session left it; its rounds need no draws, and keep their cost.
        begun: `time.monotonic` of the command's start.
    """

    session: Session
    race: Race
    rules: Mapping[str, Certifier]
    limits: Limits
    budget: Budget
    begun: float
    earlier: Race | None
    outcome: Outcome = field(init=False)
    rounds: int = 0
    costly: dict[str, str] | None = None

    def __post_init__(self) -> None:
        cells = {cell.key: cell for cell in self.session.planned.cells}
        self.cells = [cells[key] for key in self.race.candidates]
        self.outcome = Outcome(int(self.session.planned.preset.batch))
        self.ceilings = [ceilings(self.rules[cell.key], self.race.radius) for cell in self.cells]
        self.levels = max(map(len, self.ceilings))
        shape = len(self.cells), len(self.race.order)
        self.low, self.high, self.made = np.zeros(shape), np.ones(shape), np.zeros(shape, np.int64)

    def look(self, candidates: Sequence[int], images: int, level: int) -> Seen:
        """See `Source.look`; raises KeyboardInterrupt if the user stopped the race, when all counts are stored."""
        lacking = [k for k in candidates if self._lacks(k, images, level)]
        over = bool(lacking) and self._count(lacking, images, level)
        for k in candidates:
            self._read(k, images)
        if over:
            images = min(self._begun(k, images) for k in candidates)
        out = {k: self.outcome.errors[c.key] for k, c in enumerate(self.cells) if c.key in self.outcome.errors}
        out |= {k: why for k, c in enumerate(self.cells) if (why := self._costly().get(c.key))}
        draws, seconds = self._spent(), time.monotonic() - self.begun
        if self.earlier and self.rounds < len(self.earlier.rounds) and not lacking:
            known = self.earlier.rounds[self.rounds]
            draws, seconds = known.draws, known.seconds
        elif self.earlier and self.earlier.rounds:
            seconds += self.earlier.rounds[-1].seconds
        self.rounds += 1
        return Seen(self.low[:, :images], self.high[:, :images], draws, seconds, over, out)

    def _rule(self, k: int, level: int) -> RacedRule:
        levels = self.ceilings[k]
        return RacedRule(self.rules[self.cells[k].key], self.race.radius, levels[min(level, len(levels) - 1)])

    def _tally(self, stored: Mapping[int, Tally], image: int) -> Tally | None:
        try:
            return replace(stored[image], image=image, label=self.session.planned.labels[image])
        except KeyError:
            return None

    def _lacks(self, k: int, images: int, level: int) -> bool:
        """Whether draws are missing of a candidate."""
        stored, rule = self.session.store.tallies(self.cells[k].key), self._rule(k, level)
        for position in np.flatnonzero(self.low[k, :images] < self.high[k, :images]):
            tally = self._tally(stored, self.race.order[position])
            if tally is None or rule.missing(tally):
                return True
        return False

    def _count(self, candidates: Sequence[int], images: int, level: int) -> bool:
        """Count what is missing; returns whether the budget ended it."""
        spent, spending, session = self._spent(), _Spending(), self.session

        def over() -> bool:
            return self.budget.over(spent + spending.draws, time.monotonic() - self.begun, session.executor.workers)

        rules = {self.cells[k].key: self._rule(k, level) for k in candidates}
        made = session.count(
            [self.cells[k] for k in candidates],
            lambda cell: rules[cell.key],
            {image: session.planned.labels[image] for image in self.race.order[:images]},
            observer=spending,
            stop=lambda: session.stop() or over(),
        )
        if made.stopped and session.stop():
            raise KeyboardInterrupt
        self.outcome.draws += made.draws
        self.outcome.batches += made.batches
        self.outcome.errors |= made.errors
        self.outcome.start_s |= made.start_s
        return made.stopped

    def _read(self, k: int, images: int) -> None:
        """Read the verdicts that were open."""
        cell = self.cells[k]
        stored = self.session.store.tallies(cell.key)
        for position in np.flatnonzero(self.low[k, :images] < self.high[k, :images]):
            if (tally := self._tally(stored, self.race.order[position])) is not None:
                self.low[k, position], self.high[k, position] = verdict(self.rules[cell.key], self.race.radius, tally)
                self.made[k, position] = sum(sum(v) for part in (tally.select, tally.estimate) for v in part.values())

    def _begun(self, k: int, images: int) -> int:
        """Number of the first images of which a candidate has draws, without a gap."""
        return int(np.argmin(np.append(self.made[k, :images] > 0, False)))

    def _spent(self) -> int:
        return sum(self.session.store.draws(key) for key in self.race.candidates) - self.race.before

    def _costly(self) -> dict[str, str]:
        """Cell -> why it is beyond the limits, by the costs of the first round."""
        if self.costly is None:
            if self.limits.given:
                self.session.record["costs"] = self.session.costs()
                self.session.store.describe(self.session.record)
            self.costly = too_costly(read_run(self.session.store.folder), self.limits) if self.limits.given else {}
        return self.costly


def race_in(
    session: Session,
    radius: float,
    margin: float,
    limits: Limits,
    budget: Budget,
    begun: float,
    observe: Callable[[Race], object] = lambda race: None,
) -> Outcome:
    """Race in a session of a run, and keep the race in its manifest after every round.

    Parameters:
        margin: as a share.
        begun: `time.monotonic` of the command's start, from which its time counts.
        observe: called with the race after each round.

    Raises:
        ValueError: as `new_race`.
        KeyboardInterrupt: the user stopped the race; the same command continues it.
    """
    planned, store = session.planned, session.store
    rules = {cell.key: planned.certifier(cell) for cell in planned.cells}
    nfe = {cell.key: float(evaluations_of(planned, cell)) for cell in planned.cells}
    documented = Limits(nfe=limits.nfe)
    out = {key: why for key, cost in nfe.items() if (why := documented.exceeded({"nfe": cost}))}
    race = new_race(planned.cells, rules, planned.images, radius, margin, planned.preset.seed, out, budget.words)
    earlier = race_of(session.record)
    if earlier is not None and _terms(earlier) == _terms(race):
        race = replace(race, before=earlier.before)
    else:
        earlier, race = None, replace(race, before=sum(store.draws(key) for key in race.candidates))

    def keep(now: Race) -> None:
        session.record[RACE] = now.record()
        store.describe(session.record)
        observe(now)

    session.check([cell for cell in planned.cells if cell.key in race.candidates])
    live = _Live(session, race, rules, limits, budget, begun, earlier)
    ended = run_race(race, live, [nfe[key] for key in race.candidates], keep)
    if ended.ended == "budget":
        session.record[RACE] = replace(ended, forecast=forecast(ended, live.low, live.high, live.made)).record()
        store.describe(session.record)
    return live.outcome


def _terms(race: Race) -> tuple[object, ...]:
    """What two races must share so that one continues the other."""
    return race.radius, race.margin, race.error, race.order, race.candidates
