"""Who leads at a radius and within a budget, and who cannot be told from the leader. Pure.

There are no ranks: a purifier is either tied with the one that certifies the most images, or significantly lower. The
test is that of `bench.analysis.recommend`: image by image, corrected for the leader having been chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.analysis import Recommendation, Standing, recommend
from bench.analysis.standings import Option
from bench.board.benchmark import Benchmark
from bench.records import COUNTED
from bench.report.decisions import candidates
from bench.summary.headline import COSTS
from bench.summary.palette import family_of
from bench.summary.statistics import LEVEL

_AXES = {"nfe": "max_nfe", "ms_joint": "max_joint_ms", "gflops": "max_gflops"}  # cost -> keyword of `recommend`
_MOST_BUDGETS = 8  # of each kind
_MOST_RADII = 16


@dataclass(frozen=True)
class Budget:
    """The highest allowed cost: its column of the summary, in words, and as a keyword of `recommend`."""

    cost: str
    words: str
    limit: dict[str, float] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return COSTS[self.cost].axis if self.limit else ""

    @property
    def most(self) -> float:
        return next(iter(self.limit.values()), math.inf)


@dataclass(frozen=True)
class Entry:
    """A purifier at its best sigma.

    Attributes:
        standing: its figures, its distance to the leader, and its share of resamples at any sigma.
        family: of the palette.
        p: the largest at any of its sigmas, so that a purifier is lower only if it is lower at all of them; None for
            the leader.
    """

    standing: Standing
    family: str
    p: float | None

    @property
    def tied(self) -> bool:
        """The images cannot tell it from the leader; the leader itself, too."""
        return self.p is None or self.p > LEVEL

    @property
    def option(self) -> Option:
        return self.standing.option


@dataclass(frozen=True)
class Ranking:
    """The entries at one radius and within one budget.

    Attributes:
        advice: the recommendation, whose choice is the leader.
        budget: of the entries.
        tied: with the leader: the cheapest first, because accuracy does not order them.
        lower: significantly lower than the leader, the highest accuracy first.
        cheapest: of those tied with the leader, if it is not the leader and costs less.
    """

    advice: Recommendation
    budget: Budget
    tied: tuple[Entry, ...]
    lower: tuple[Entry, ...]
    cheapest: Entry | None


def ranking(benchmark: Benchmark, radius: float, budget: Budget) -> Ranking:
    """The ranking of a benchmark at an L2 radius, in [0,1] pixel units."""
    table = benchmark.summary.table
    advice = recommend(benchmark.summary, radius, **budget.limit)
    families = dict(zip(zip(table["run"], table["cell"], strict=True), table["family"], strict=True))
    largest: dict[str, float | None] = {}
    for standing in reversed(advice.standings):  # the leader comes last, and has no p
        before = largest.get(standing.name, 0.0)
        largest[standing.name] = None if standing.p is None or before is None else max(standing.p, before)
    entries = [Entry(s, family_of(families[s.option.run, s.option.cell]), largest[s.name]) for s in candidates(advice)]
    tied = sorted((e for e in entries if e.tied), key=lambda e: _price(e, budget.cost))
    lower = [e for e in entries if not e.tied]
    leader = next((e for e in tied if e.option == advice.chosen), None)
    first = tied[0] if tied else None
    cheaper = first is not None and leader is not None and _price(first, budget.cost) < _price(leader, budget.cost)
    return Ranking(advice, budget, tuple(tied), tuple(lower), first if cheaper else None)


def _price(entry: Entry, cost: str) -> tuple[float, ...]:
    """The cost of an entry, and other costs where several have the same; unknown ones last."""
    costs = [entry.option.cost(column) for column in (cost, "nfe", "gflops")]
    return tuple(math.inf if math.isnan(value) else value for value in costs)


def radii_of(benchmark: Benchmark) -> list[float]:
    """The radii that some row can certify, at most `_MOST_RADII`, evenly spaced among them; one at least."""
    radii, reach = benchmark.summary.radii, benchmark.summary.table["largest"].max()
    return _thinned([r for r in radii if r <= reach] or radii[:1], _MOST_RADII)


def budgets(benchmark: Benchmark) -> list[Budget]:
    """Any cost, and of each cost the values that let in one more purifier, at most eight, rounded up to two digits.

    Budgets of time are offered only if milliseconds compare (`Summary.untimed`).
    """
    table = benchmark.summary.table
    counted = table[(table["source"] == COUNTED) & table["acr"].notna()]
    found = [Budget("nfe", "any cost")]
    for cost, keyword in _AXES.items():
        if cost == "ms_joint" and benchmark.summary.untimed:
            continue
        levels = sorted({_rounded_up(v) for v in counted[cost].dropna()})[:-1]
        unit = COSTS[cost].unit
        found += [
            Budget(cost, f"at most {v:g} {unit.removesuffix('s') if v == 1 and cost == 'nfe' else unit}", {keyword: v})
            for v in _thinned(levels, _MOST_BUDGETS)
        ]
    return found


def _rounded_up(value: float) -> float:
    """To two significant digits, never below the value."""
    if value <= 0:
        return 0.0
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit * (1 - 1e-12)) * unit:.12g}")


def _thinned(values: Sequence[float], most: int) -> list[float]:
    """At most so many of the values, evenly spaced, with the first and the last."""
    if len(values) <= most:
        return list(values)
    return [values[round(i * (len(values) - 1) / (most - 1))] for i in range(most)]
