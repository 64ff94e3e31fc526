"""Drive a sweep: pack the draws that certifiers need into tasks, keep the executor busy, store the counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench.certify.base import Certifier, Tally
from bench.engine.checks import PluginFault
from bench.errors import RunError
from bench.executors.base import Executor, describe, timeout_message, workers_died_message
from bench.records import Block, Cell, Counts, Task
from bench.store.store import Store

AHEAD = 64  # blocks that are tried to fill the rest of a batch
OPEN = 4  # cells counted together: later ones fill the batches that the last images of a cell leave half empty


@dataclass
class CellProgress:
    """The state of one cell: counted blocks, blocks in flight, blocks that can be made next. Pure bookkeeping.

    Votes are held only of images that are being worked on; those of all images would be millions.

    Attributes:
        labels: true class of every image that is certified.
        counted: image -> stored tally.
        tallies: of the images that are being worked on.
        awaited: image -> number of requested blocks that are not counted yet.
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
        """Continue from stored counts; raises ValueError if the certifier cannot read them."""
        progress, begun = cls(cell, certifier, labels, counted), set(counted)
        for image, label in labels.items():
            if image in begun and not certifier.missing(tally_of(image, label, counted)):
                progress.decided += 1
            else:
                progress.unasked.append(image)
        return progress

    def fill(self, draws: int) -> int:
        """Queue blocks until there are as many draws, if possible; returns the number of queued draws."""
        while self.draws_ready < draws and self.unasked:
            self.ask(self.unasked.popleft())
        return self.draws_ready

    def ask(self, image: int) -> bool:
        """Queue the blocks that the certifier needs of an image; returns True if the image is decided."""
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
        """Add counts; returns the number of images that they decided.

        The certifier is asked again once all requested blocks of an image are counted.
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
    """The stored tally of an image, with its label; an empty one if nothing is stored."""
    return replace(counted.get(image) or Tally({}, {}), image=image, label=label)


@dataclass
class Outcome:
    """The outcome of a sweep.

    Attributes:
        batch: draws of a full batch.
        errors: of failed cells, by key.
        draws, batches: counted in this session.
        stopped: the user stopped the sweep before its end.
        start_s: seconds of loading, compiling and warming up in all workers, by name; not part of any block's cost.
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
        """Mean share of a batch that is filled; None if nothing was counted."""
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

    A plugin that raises or returns wrong values fails its own cell. Workers that keep dying end the sweep; stored
    counts stay.

    Parameters:
        labels: true class of every image that is certified.
        timeout: seconds in which at least one batch must come back.
        stop: called before every batch; once it returns True, running batches are finished and stored.
        check: called with counts before they are stored; raises if they cannot belong to this sweep.

    Raises:
        RuntimeError: workers kept dying, or no batch came back in time.
        Exception: from `check`; other counts that came back are stored first.
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
            if progress is None and len(flights) < executor.workers:  # a partial batch is better than an idle worker
                progress = max((p for p in open_cells if p.ready), key=lambda p: p.draws_ready, default=None)
            if progress is None:
                break
            task = progress.take(batch)
            outcome.batches += 1
            flights[executor.submit(task)] = progress
        landed, _ = wait(flights, timeout, FIRST_COMPLETED) if flights else (set(), None)
        if flights and not landed:
            executor.abandon()
            raise RunError(timeout_message(timeout or 0.0, named_all(flights.values())))
        ended: Exception | None = None  # raised after all finished batches are stored
        in_flight = list(flights.values())
        for future in landed:
            progress = flights.pop(future)
            try:
                counts = future.result()
                check(counts)
            except PluginFault as fault:
                if progress in open_cells:  # else its cell has failed before
                    end(progress, _kept(fault, store.folder, progress.cell))
                continue
            except Exception as error:
                broken = isinstance(error, BrokenProcessPool)
                ended = RunError(workers_died_message(named_all(in_flight))) if broken else error
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
    """The names of cells for a message."""
    return ", ".join(sorted({describe(p.cell) for p in progresses}))


def refuse_unreadable(
    cells: Sequence[Cell], certifier_of: Callable[[Cell], Certifier], labels: Mapping[int, int], store: Store
) -> None:
    """Raise ValueError if the certifiers cannot read the stored counts, before the run changes its folder."""
    for cell in cells:
        certifier, counted = certifier_of(cell), store.tallies(cell.key)
        for image in set(counted) & set(labels):
            certifier.missing(tally_of(image, labels[image], counted))


class Observer:
    """Receives the events of a sweep; this one ignores them."""

    def cell_started(self, cell: Cell, decided: int) -> None:
        """A cell begins; `decided` of its images are decided already."""

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        """Blocks were stored; they decided so many more images."""

    def cell_ended(self, cell: Cell, error: str | None) -> None:
        """A cell is complete, or failed with an error."""


def _kept(fault: PluginFault, folder: Path, cell: Cell) -> str:
    """Keep the traceback of a fault in the results folder; returns the message with its place."""
    if not fault.traceback:
        return str(fault)
    path = folder / "tracebacks" / f"{cell.key}.txt"
    try:
        path.parent.mkdir(exist_ok=True)
        path.write_text(fault.traceback)
    except OSError:
        return str(fault)  # the message matters more than its traceback
    return f"{fault}; traceback in {path}"
