"""Drive a sweep: pack what the certifiers still need into tasks, keep the executor busy, store what comes back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field

from bench.certify import Certifier, Tally
from bench.engine import PluginFault, Task
from bench.executors import Executor
from bench.observer import Observer
from bench.store import Store
from bench.types import Block, Cell, Counts


@dataclass
class CellProgress:
    """The state of one cell: what is counted, what is in flight, what can be made next. Pure bookkeeping."""

    cell: Cell
    certifier: Certifier
    tallies: dict[int, Tally]
    ready: deque[Block] = field(default_factory=deque)
    awaited: dict[int, int] = field(default_factory=dict)  # image -> blocks that were asked for and are not there yet
    draws_ready: int = 0
    flying: int = 0
    decided: int = 0

    @classmethod
    def resume(
        cls, cell: Cell, certifier: Certifier, images: Iterable[int], counted: Mapping[int, Tally]
    ) -> CellProgress:
        """Continue from what is counted; raises ValueError where it cannot be read at the draws asked for."""
        progress = cls(cell, certifier, {image: counted.get(image, Tally({}, {})) for image in images})
        progress.decided = sum(progress.ask(image) for image in progress.tallies)
        return progress

    def ask(self, image: int) -> bool:
        """Queue what the certifier still needs of an image; returns whether it needs nothing more."""
        requests = self.certifier.missing(self.tallies[image])
        for request in requests:
            block = Block(self.cell.key, image, request.stage, request.first, request.draws)
            self.ready.append(block)
            self.draws_ready += block.draws
        self.awaited[image] = len(requests)
        return not requests

    def take(self, draws: int) -> Task:
        """Blocks for one batch of up to `draws` draws (one block at least)."""
        taken: list[Block] = []
        total = 0
        while self.ready and (not taken or total + self.ready[0].draws <= draws):
            taken.append(self.ready.popleft())
            total += taken[-1].draws
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
        return not self.ready and not self.flying


def sweep(
    cells: Sequence[Cell],
    certifier_of: Callable[[Cell], Certifier],
    images: Sequence[int],
    store: Store,
    executor: Executor,
    batch: int,
    observer: Observer,
) -> dict[str, str]:
    """Count until every image of every cell is decided; returns why cells failed, by key.

    A plugin that misbehaves ends its own cell. A dead worker process ends the sweep: what was stored stays.

    Raises:
        RuntimeError: a worker process died.
    """
    waiting = deque(cells)
    open_cells: list[CellProgress] = []
    flights: dict[Future[list[Counts]], CellProgress] = {}
    errors: dict[str, str] = {}

    def end(progress: CellProgress, error: str | None = None) -> None:
        open_cells.remove(progress)
        if error:
            errors[progress.cell.key] = error
            store.fail(progress.cell.key, error)
        observer.cell_ended(progress.cell, error)

    while waiting or open_cells:
        while len(flights) < executor.slots:
            progress = next_to_run(open_cells, batch)
            if progress is None and waiting:
                cell = waiting.popleft()
                progress = CellProgress.resume(cell, certifier_of(cell), images, store.tallies(cell.key))
                open_cells.append(progress)
                observer.cell_started(cell, progress.decided)
                continue
            if progress is None:
                progress = next((p for p in open_cells if p.ready), None)
            if progress is None:
                break
            flights[executor.submit(progress.take(batch))] = progress
        landed, _ = wait(flights, return_when=FIRST_COMPLETED) if flights else (set(), None)
        for future in landed:
            progress = flights.pop(future)
            if progress not in open_cells:
                continue  # its cell has failed meanwhile
            try:
                counts = future.result()
            except PluginFault as fault:
                end(progress, str(fault))
                continue
            except BrokenProcessPool as error:
                raise RuntimeError(
                    "a worker process died (out of memory, or killed); what was counted is stored, and the same "
                    "command continues. Try a smaller --batch or fewer --workers"
                ) from error
            store.add(counts)
            observer.counted(progress.cell, counts, progress.give(counts))
        for progress in [p for p in open_cells if p.done]:
            end(progress)
    return errors


def refuse_unreadable(
    cells: Sequence[Cell], certifier_of: Callable[[Cell], Certifier], images: Sequence[int], store: Store
) -> None:
    """Raise ValueError where stored counts cannot be read at the draws asked for, before a run touches its folder."""
    for cell in cells:
        certifier, tallies = certifier_of(cell), store.tallies(cell.key)
        for image in images:
            if image in tallies:
                certifier.missing(tallies[image])


def next_to_run(open_cells: Sequence[CellProgress], batch: int) -> CellProgress | None:
    """The first cell with a full batch ready, or with nothing else to wait for than what is ready."""
    for progress in open_cells:
        if progress.draws_ready >= batch or (progress.ready and not progress.flying):
            return progress
    return None
