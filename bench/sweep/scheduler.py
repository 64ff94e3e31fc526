"""Drive a sweep: pack what the certifiers still need into tasks, keep the executor busy, store what comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace

from bench.certify.base import Certifier, Tally
from bench.engine.checks import PluginFault
from bench.executors.base import Executor, describe, timeout_message, workers_died_message
from bench.records import Block, Cell, Counts, Task
from bench.store.store import Store

AHEAD = 64  # blocks that a batch looks through for those that fit
OPEN = 4  # cells that are worked on together: the next ones fill the batches that the last images of one leave empty


@dataclass
class CellProgress:
    """The state of one cell: what is counted, what is in flight, what can be made next. Pure bookkeeping.

    Images are asked about when their blocks are wanted, and their votes are kept until they are decided: those of all
    images together would be millions.

    Attributes:
        labels: true class of every image that is certified.
        counted: what is stored of an image.
        tallies: what is counted of the images that are worked on.
        awaited: image -> blocks that were asked for and are not there yet.
    """

    cell: Cell
    certifier: Certifier
    labels: Mapping[int, int]
    counted: Mapping[int, Tally]
    tallies: dict[int, Tally] = field(default_factory=dict)
    unasked: deque[int] = field(default_factory=deque)
    ready: deque[Block] = field(default_factory=deque)
    awaited: dict[int, int] = field(default_factory=dict)
    draws_ready: int = 0
    flying: int = 0
    decided: int = 0

    @classmethod
    def resume(
        cls, cell: Cell, certifier: Certifier, labels: Mapping[int, int], counted: Mapping[int, Tally]
    ) -> CellProgress:
        """Continue from what is counted; raises ValueError where it cannot be read at the draws asked for."""
        progress, begun = cls(cell, certifier, labels, counted), set(counted)
        for image, label in labels.items():
            if image in begun and not certifier.missing(tally_of(image, label, counted)):
                progress.decided += 1
            else:
                progress.unasked.append(image)
        return progress

    def fill(self, draws: int) -> int:
        """Queue blocks of at least as many draws where there are any; returns how many are queued."""
        while self.draws_ready < draws and self.unasked:
            self.ask(self.unasked.popleft())
        return self.draws_ready

    def ask(self, image: int) -> bool:
        """Queue what the certifier still needs of an image; returns whether it needs nothing more."""
        if image not in self.tallies:
            self.tallies[image] = tally_of(image, self.labels[image], self.counted)
        requests = self.certifier.missing(self.tallies[image])
        for request in requests:
            block = Block(self.cell.key, image, request.stage, request.first, request.draws)
            self.ready.append(block)
            self.draws_ready += block.draws
        self.awaited[image] = len(requests)
        if not requests:
            del self.tallies[image], self.awaited[image]
        return not requests

    def take(self, draws: int) -> Task:
        """Blocks for one batch of up to `draws` draws (one block at least), the first that fit."""
        self.fill(draws)
        taken: list[Block] = []
        passed: list[Block] = []
        total = 0
        while self.ready and total < draws and len(passed) < AHEAD:
            block = self.ready.popleft()
            if taken and total + block.draws > draws:
                passed.append(block)
            else:
                taken.append(block)
                total += block.draws
        self.ready.extendleft(reversed(passed))
        self.flying += len(taken)
        self.draws_ready -= total
        return Task(self.cell, tuple(taken))

    def give(self, counts: Sequence[Counts]) -> int:
        """Take in what was counted; returns how many images it decided.

        The certifier is asked again when all that it asked for is there, not after every block.
        """
        self.flying -= len(counts)
        for c in counts:
            getattr(self.tallies[c.block.image], c.block.stage)[c.block.first] = c.votes
            self.awaited[c.block.image] -= 1
        return sum(self.ask(image) for image in {c.block.image for c in counts} if not self.awaited[image])

    @property
    def done(self) -> bool:
        return not self.ready and not self.flying and not self.unasked


def tally_of(image: int, label: int, counted: Mapping[int, Tally]) -> Tally:
    """What is counted of an image of a sweep, with its label; an empty tally where there is nothing."""
    return replace(counted.get(image) or Tally({}, {}), image=image, label=label)


@dataclass
class Outcome:
    """How a sweep went.

    Attributes:
        errors: why cells failed, by key.
        draws, batches: counted now.
        batch: draws that a full batch holds.
        stopped: whether it was asked to stop before all was counted.
        start_s: seconds that workers took to load, compile and warm up, together, by these names; in no block's cost.
    """

    batch: int
    errors: dict[str, str] = field(default_factory=dict)
    draws: int = 0
    batches: int = 0
    stopped: bool = False
    start_s: dict[str, float] = field(default_factory=dict)

    def add(self, counts: Sequence[Counts]) -> None:
        self.draws += sum(c.block.draws for c in counts)
        for name, seconds in (item for c in counts for item in c.start_s.items()):
            self.start_s[name] = self.start_s.get(name, 0.0) + seconds

    @property
    def occupancy(self) -> float | None:
        """Draws in a batch on average, as a share of what it holds; None where nothing had to be counted."""
        return self.draws / (self.batches * self.batch) if self.batches else None


def sweep(
    cells: Sequence[Cell],
    certifier_of: Callable[[Cell], Certifier],
    labels: Mapping[int, int],
    store: Store,
    executor: Executor,
    batch: int,
    observer: Observer,
    stop: Callable[[], bool] = lambda: False,
    timeout: float | None = None,
    check: Callable[[Sequence[Counts]], None] = lambda _: None,
) -> Outcome:
    """Count until every image of every cell is decided.

    A plugin that misbehaves ends its own cell. Workers that die again and again end the sweep: what was stored stays.

    Parameters:
        labels: true class of every image that is certified.
        timeout: seconds in which at least one batch must come back.
        stop: asked before every batch; once it says yes, the batches that are under way are finished and stored.
        check: looks at counts before they are stored, and raises where they cannot be of this sweep.

    Raises:
        RuntimeError: workers died again and again, or no batch came back in time.
        Exception: what `check` raises; what came back beside it is stored.
    """
    waiting = deque(cells)
    open_cells: list[CellProgress] = []
    flights: dict[Future[list[Counts]], CellProgress] = {}
    outcome = Outcome(batch)

    def end(progress: CellProgress, error: str | None = None) -> None:
        open_cells.remove(progress)
        if error:
            outcome.errors[progress.cell.key] = error
            store.fail(progress.cell.key, error)
        observer.cell_ended(progress.cell, error)

    while waiting or open_cells:
        outcome.stopped = outcome.stopped or stop()
        if outcome.stopped and not flights:
            break
        while len(flights) < executor.slots and not outcome.stopped:
            progress = next((p for p in open_cells if p.fill(batch) >= batch), None)
            if progress is None and waiting and len(open_cells) < OPEN:
                cell = waiting.popleft()
                progress = CellProgress.resume(cell, certifier_of(cell), labels, store.tallies(cell.key))
                open_cells.append(progress)
                observer.cell_started(cell, progress.decided)
                continue
            if progress is None and len(flights) < executor.workers:  # a worker would idle: better a part of a batch
                progress = max((p for p in open_cells if p.ready), key=lambda p: p.draws_ready, default=None)
            if progress is None:
                break
            task = progress.take(batch)
            outcome.batches += 1
            flights[executor.submit(task)] = progress
        landed, _ = wait(flights, timeout, FIRST_COMPLETED) if flights else (set(), None)
        if flights and not landed:
            executor.abandon()
            raise RuntimeError(timeout_message(timeout or 0.0, named_all(flights.values())))
        ended: Exception | None = None  # raised when all that came back is stored
        on_the_way = list(flights.values())
        for future in landed:
            progress = flights.pop(future)
            try:
                counts = future.result()
                check(counts)
            except PluginFault as fault:
                if progress in open_cells:  # or its cell has failed already
                    end(progress, str(fault))
                continue
            except Exception as error:
                broken = isinstance(error, BrokenProcessPool)
                ended = RuntimeError(workers_died_message(named_all(on_the_way))) if broken else error
                continue
            store.add(counts)
            outcome.add(counts)
            if progress in open_cells:
                observer.counted(progress.cell, counts, progress.give(counts))
        if ended is not None:
            raise ended
        for progress in [p for p in open_cells if p.done]:
            end(progress)
    return outcome


def named_all(progresses: Iterable[CellProgress]) -> str:
    """The cells of some batches, as a message names them."""
    return ", ".join(sorted({describe(p.cell) for p in progresses}))


def refuse_unreadable(
    cells: Sequence[Cell], certifier_of: Callable[[Cell], Certifier], labels: Mapping[int, int], store: Store
) -> None:
    """Raise ValueError where stored counts cannot be read at the draws asked for, before a run touches its folder."""
    for cell in cells:
        certifier, counted = certifier_of(cell), store.tallies(cell.key)
        for image in set(counted) & set(labels):
            certifier.missing(tally_of(image, labels[image], counted))


class Observer:
    """Is told how a sweep goes; this one keeps silent."""

    def cell_started(self, cell: Cell, decided: int) -> None:
        """A cell is opened; `decided` of its images need nothing more."""

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        """Blocks were stored; `decided` more images have their certificate."""

    def cell_ended(self, cell: Cell, error: str | None) -> None:
        """A cell is complete, or failed."""
