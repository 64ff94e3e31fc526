"""The same race on the counts of a finished run, many times: how often it is wrong, and what it saves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.certify import Certifier, Request, Tally, of_sweep
from bench.errors import InputError
from bench.racing.allocation import Seen, run_race
from bench.racing.candidates import MARGIN, Limits, new_race, too_costly
from bench.racing.rule import RacedRule, ceilings, verdict
from bench.store import Run
from bench.store.races import Ending
from bench.summary import summarise

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]


class Traces(NamedTuple):
    """What a race would see of each image at each level: `[K, levels, images]` bounds, and draws that it would make."""

    low: _Floats
    high: _Floats
    draws: _Ints

    @property
    def levels(self) -> int:
        return int(self.draws.shape[1])


class Stored:
    """A `Source` of a race that looks up traces, with the images in another order.

    Parameters:
        order: positions of the images in the traces.
    """

    def __init__(self, traces: Traces, order: _Ints):
        self.traces, self.levels = traces, traces.levels
        self._order = order
        self._spent: dict[int, int] = {}

    def look(self, candidates: Sequence[int], images: int, level: int) -> Seen:
        at = self._order[:images]
        for k in candidates:
            self._spent[k] = int(self.traces.draws[k, level, at].sum())
        return Seen(self.traces.low[:, level, at], self.traces.high[:, level, at], sum(self._spent.values()), 0.0)


@dataclass(frozen=True)
class Replay:
    """Many races on the counts of one run.

    Attributes:
        radius, margin, repeats: of the races; each has its own order of the images.
        images, candidates: of each race.
        best: certified accuracy of the best candidate on all images, in the full run.
        lost: races that dropped the best candidate; of several equal ones, any of them.
        outside: races whose choice certifies less than the best by the margin or more.
        regret: mean difference of the best and of the chosen one.
        draws: mean number of draws, and the 5th and 95th percentile.
        full, sweep: draws of all candidates, and of all cells, in the full run.
        endings: how the races ended.
        left: mean number of candidates that remained.
    """

    radius: float
    margin: float
    repeats: int
    images: int
    candidates: int
    best: float
    lost: int
    outside: int
    regret: float
    draws: tuple[float, float, float]
    full: int
    sweep: int
    endings: dict[Ending, int]
    left: float


def replay(
    run: Run, radius: float, margin: float = MARGIN, repeats: int = 200, limits: Limits | None = None, seed: int = 0
) -> Replay:
    """Race on the counts of a finished run instead of new draws.

    Parameters:
        margin: as a share.
        seed: of the orders of the images.

    Raises:
        ValueError: a parameter is out of range, or no complete cell certifies the radius.
    """
    if repeats < 1:
        raise InputError(f"the number of repeats must be at least 1, got {repeats}")
    table = summarise([run]).table
    complete = set(table.loc[table["complete"], "cell"])
    cells = [cell for key, cell in run.cells.items() if key in complete]
    if not cells:
        raise InputError(f"{run.folder} has no complete cell; the same `bench run` command continues it")
    rules = {cell.key: of_sweep(run.manifest["preset"], cell.sigma) for cell in cells}
    images = sorted(int(i) for i in run.manifest["labels"])
    first = new_race(cells, rules, images, radius, margin, seed, too_costly(run, limits or Limits()))
    keys = first.candidates
    traces = traces_of(run, {key: rules[key] for key in keys}, sorted(images), radius)
    costs = [float(c) for c in table.set_index("cell").loc[keys, "nfe"]]
    accuracy = traces.low[:, -1].mean(axis=1)
    races, spent = [], []
    for i in range(repeats):
        order = np.random.default_rng([seed, i]).permutation(len(images))
        races.append(run_race(replace(first, order=[images[k] for k in order]), Stored(traces, order), costs))
        spent.append(races[-1].rounds[-1].draws)
    best = {key for key, share in zip(keys, accuracy, strict=True) if share == accuracy.max()}
    chosen = np.array([accuracy[keys.index(str(race.chosen))] for race in races])
    counted = run.blocks.groupby("cell")["draws"].sum()
    return Replay(
        radius=radius,
        margin=margin,
        repeats=repeats,
        images=len(images),
        candidates=len(keys),
        best=float(accuracy.max()),
        lost=sum(any(dropped.cell in best for dropped in race.dropped) for race in races),
        outside=int((accuracy.max() - chosen >= max(margin, 1e-9)).sum()),
        regret=float((accuracy.max() - chosen).mean()),
        draws=(float(np.mean(spent)), *(float(q) for q in np.quantile(spent, (0.05, 0.95)))),  # type: ignore[arg-type]
        full=int(counted[keys].sum()),
        sweep=int(counted[counted.index.isin(run.cells)].sum()),
        endings=dict(Counter(race.ended for race in races if race.ended)),
        left=float(np.mean([len(race.left) for race in races])),
    )


def traces_of(run: Run, rules: Mapping[str, Certifier], images: Sequence[int], radius: float, seed: int = 0) -> Traces:
    """The traces of some cells of a run, in the order of `rules` and of `images`.

    A block that a race would have cut holds its votes in an unknown order, so it is cut at random: any order of
    independent draws is as probable.

    Parameters:
        rules: by cell; the run must have all draws that they ask for.
    """
    labels = {int(i): label for i, label in run.manifest["labels"].items()}
    levels = {key: ceilings(rule, radius) for key, rule in rules.items()}
    most = max(map(len, levels.values()))
    shape = len(rules), most, len(images)
    traces = Traces(np.zeros(shape), np.zeros(shape), np.zeros(shape, np.int64))
    row, column = {key: k for k, key in enumerate(rules)}, {image: i for i, image in enumerate(images)}
    rng = np.random.default_rng(seed)
    blocks = run.blocks[run.blocks["cell"].isin(rules) & run.blocks["image"].isin(column)]
    for (key, image), part in blocks.groupby(["cell", "image"], sort=False):
        counts = zip(part["stage"], part["first"], part["votes"], strict=True)
        stored = {(stage, int(first)): list(votes) for stage, first, votes in counts}
        tally = Tally({}, {}, image, labels[image])
        k, i, seen = row[key], column[image], 0
        for level in range(most):
            ceiling = levels[key][min(level, len(levels[key]) - 1)]
            for stage, first, votes in _answers(RacedRule(rules[key], radius, ceiling), tally, stored, rng):
                getattr(tally, stage)[first] = votes
                seen += sum(votes)
            traces.draws[k, level, i] = seen
            traces.low[k, level, i], traces.high[k, level, i] = verdict(rules[key], radius, tally)
    return traces


def _answers(
    rule: RacedRule, tally: Tally, stored: dict[tuple[str, int], list[int]], rng: np.random.Generator
) -> Iterator[tuple[str, int, tuple[int, ...]]]:
    """The blocks that a rule asks for, from stored votes, as stage, first draw and votes; `tally` grows meanwhile."""
    while requests := rule.missing(tally):
        for request in requests:
            yield request.stage, request.first, _cut(request, stored, rng)


def _cut(request: Request, stored: dict[tuple[str, int], list[int]], rng: np.random.Generator) -> tuple[int, ...]:
    """The votes of the requested draws, taken from the stored block that begins there; its rest is stored again."""
    votes = stored.pop((request.stage, request.first))
    if (draws := sum(votes)) > request.draws:
        taken = rng.multivariate_hypergeometric(votes, request.draws, method="marginals").tolist()
        rest = request.first + request.draws
        stored[request.stage, rest] = [a - b for a, b in zip(votes, taken, strict=True)]
        return tuple(taken)
    if draws == request.draws:
        return tuple(votes)
    beyond = replace(request, first=request.first + draws, draws=request.draws - draws)
    return tuple(a + b for a, b in zip(votes, _cut(beyond, stored, rng), strict=True))
