"""An executor that finishes, fails and dies in any order, and random sweeps whose votes are a function of the draw."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass, field
from unittest.mock import patch

from hypothesis import strategies as st
from summaries import CELL

from bench.certify.base import Request, Tally, gaps
from bench.certify.fixed import FixedN
from bench.certify.sequential import Sequential
from bench.engine.checks import PluginFault
from bench.records import Block, Cell, Certificate, Cost, Counts, Task
from bench.store.store import Store
from bench.sweep.scheduler import Observer, Outcome, sweep

CLASSES = 3
FREE = Cost(0, 0, 0, 0, 0, 0, "none")


def votes_of(block: Block) -> tuple[int, ...]:
    """Classes of a block's draws, each fixed by what it is; some images are easy, others are not."""
    easy = random.Random(f"{block.cell} {block.image}").random()
    votes = [0] * CLASSES
    for draw in range(block.first, block.first + block.draws):
        rng = random.Random(f"{block.cell} {block.image} {block.stage} {draw}")
        votes[0 if rng.random() < easy else rng.randrange(CLASSES)] += 1
    return tuple(votes)


@dataclass(frozen=True)
class Streak:
    """A rule that stops early, at unequal looks: up to `most` draws, until class 0 leads by `lead`."""

    most: int
    lead: int
    piece: int
    rule = identity = "streak"
    largest = 1.0

    def decide(self, tally: Tally) -> tuple[list[Request], Certificate | None]:
        """What the next look lacks, or the certificate of the look that decided."""
        start = 0
        while start < self.most:
            look = min(self.most, start + self.piece + start % 3)
            done, votes = tally.uninterrupted("estimate", look)
            if done < look:
                return gaps(tally.estimate, "estimate", start, look, self.piece), None
            if votes[0] - max(votes[1:]) >= self.lead:
                return [], Certificate(0, look, 0.6, 0.1, self.rule)
            start = look
        return [], Certificate(None, start, 0.0, 0.0, self.rule)

    def missing(self, tally: Tally) -> list[Request]:
        return self.decide(tally)[0]

    def certify(self, tally: Tally) -> Certificate | None:
        return self.decide(tally)[1]


RULES = st.one_of(
    st.builds(FixedN, st.just(0.5), st.integers(1, 12), st.integers(1, 60), st.just(0.01), block=st.integers(1, 25)),
    st.builds(Streak, st.integers(1, 60), st.integers(1, 10), st.integers(1, 12)),
    st.builds(
        lambda block: Sequential(0.5, (0.0, 0.25), n0=5, alpha=0.05, preset="fast", n_max=300, block=block),
        st.integers(5, 120),
    ),
)


@dataclass
class Chaos:
    """An executor that answers in any order, some batches at a time, and fails as it is told to.

    Attributes:
        faulty: cells whose plugin misbehaves, with a chance of one in three for each batch.
        crash: batches after which a worker dies; 0 for never.
        counted: how often each block was counted and given back.
    """

    seed: int
    workers: int = 1
    slots: int = 1
    faulty: frozenset[str] = frozenset()
    crash: int = 0
    answered: int = 0
    pending: dict[Future, Task] = field(default_factory=dict)
    counted: Counter[Block] = field(default_factory=Counter)
    largest: int = 0

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def submit(self, task: Task) -> Future:
        assert len(self.pending) < self.slots
        future: Future = Future()
        self.pending[future] = task
        if len(task.blocks) > 1:
            self.largest = max(self.largest, sum(block.draws for block in task.blocks))
        return future

    def wait(self, flights, timeout, return_when):
        """In place of `concurrent.futures.wait`: answer at least one batch, any."""
        assert set(flights) == set(self.pending)
        landed = self.rng.sample(list(self.pending), self.rng.randint(1, len(self.pending)))
        for future in landed:
            self.answer(future, self.pending.pop(future))
        return set(landed), set(self.pending)

    def answer(self, future: Future, task: Task) -> None:
        self.answered += 1
        if self.answered == self.crash:
            future.set_exception(RuntimeError("a worker died"))
        elif task.cell.key in self.faulty and self.rng.random() < 1 / 3:
            future.set_exception(PluginFault("out of ideas"))
        else:
            self.counted.update(task.blocks)
            future.set_result([Counts(block, votes_of(block), FREE) for block in task.blocks])

    def show(self, cell, images, draw=0):
        raise NotImplementedError

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


class Tallying(Observer):
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.decided: Counter[str] = Counter()
        self.ended: dict[str, str | None] = {}

    def cell_started(self, cell, decided):
        self.decided[cell.key] += decided

    def counted(self, cell, counts, decided):
        self.decided[cell.key] += decided

    def cell_ended(self, cell, error):
        assert cell.key not in self.ended
        self.ended[cell.key] = error


@dataclass(frozen=True)
class Case:
    """A sweep: cells with a rule each, images, how many draws a batch holds."""

    cells: tuple[Cell, ...]
    rules: dict[str, object]
    labels: dict[int, int]
    batch: int

    def alone(self, cell: Cell, image: int) -> Tally:
        """What is counted of an image by a plain loop: ask the rule, count, ask again."""
        tally, rule = Tally({}, {}, image, self.labels[image]), self.rules[cell.key]
        while requests := rule.missing(tally):
            for r in requests:
                getattr(tally, r.stage)[r.first] = votes_of(Block(cell.key, image, r.stage, r.first, r.draws))
        return tally

    def run(self, store: Store, executor: Chaos, observer: Observer | None = None, stop=lambda: False) -> Outcome:
        with patch("bench.sweep.scheduler.wait", executor.wait):
            return sweep(
                *(self.cells, lambda cell: self.rules[cell.key], self.labels, store, executor, self.batch),
                observer or Observer(),
                stop,
            )

    def check(self, store: Store, but: frozenset[str] = frozenset()) -> None:
        """Counts and certificates are those of the plain loop; of cells that failed, a part of them."""
        for cell in self.cells:
            stored = store.tallies(cell.key)
            for image in self.labels:
                alone, found = self.alone(cell, image), stored.get(image, Tally({}, {}))
                if cell.key in but:
                    assert found.select.items() <= alone.select.items()
                    assert found.estimate.items() <= alone.estimate.items()
                    continue
                assert (dict(found.select), dict(found.estimate)) == (alone.select, alone.estimate)
                rule, own = self.rules[cell.key], Tally(found.select, found.estimate, image, self.labels[image])
                assert rule.certify(own) == rule.certify(alone) is not None


@st.composite
def cases(draw) -> Case:
    cells = tuple(Cell(**CELL, purifier=f"p{k}", parameters={}, sigma=0.5) for k in range(draw(st.integers(1, 6))))
    rules = {cell.key: draw(RULES) for cell in cells}
    images = draw(st.lists(st.integers(0, 999), min_size=1, max_size=6, unique=True))
    return Case(cells, rules, dict.fromkeys(images, 0), draw(st.integers(1, 150)))


@st.composite
def executors(draw, **fields) -> Chaos:
    workers = draw(st.integers(1, 4))
    given_fields = {name: draw(value) for name, value in fields.items()}
    return Chaos(draw(st.integers(0, 2**32)), workers, workers * draw(st.integers(1, 3)), **given_fields)
