"""Drive a sweep: pack the draws that certifiers need into tasks, keep the executor busy, store the counts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from bench.certify import Requesting
from bench.engine import PluginFault
from bench.errors import RunError
from bench.executors import Executor, describe_cell, timeout_message
from bench.files import make_subfolder, write_file
from bench.records import Cell, Counts, Task
from bench.store import Store
from bench.sweep.bookkeeping import CellProgress, tally_of
from bench.sweep.trust import Trust

_OPEN = 4  # cells counted together: later ones fill the batches that the last images of a cell leave half empty


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


class _Assigned(NamedTuple):
    """A batch of a cell; `recount`: it is counted again for the audit."""

    progress: CellProgress
    task: Task
    recount: bool = False


def sweep(
    cells: Sequence[Cell],
    certifier_of: Callable[[Cell], Requesting],
    labels: Mapping[int, int],
    store: Store,
    executor: Executor,
    batch: int,
    observer: Observer,
    stop: Callable[[], bool] = lambda: False,
    timeout: float | None = None,
    check: Callable[[Sequence[Counts]], None] = lambda _: None,
    trust: Trust | None = None,
) -> Outcome:
    """Count until every image of every cell is decided.

    A plugin that raises or returns wrong values fails its own cell. Workers that keep dying end the sweep.

    Parameters:
        labels: true class of every image that is certified.
        timeout: seconds in which at least one batch must come back.
        stop: called before every batch; once it returns True, running batches are finished and stored.
        check: called with counts before they are stored; raises if they cannot belong to this sweep.
        trust: the cells that are refused, and the audits of the others; nothing is audited without it.

    Raises:
        RuntimeError: workers kept dying, or no batch came back in time.
        Exception: from `check`; other counts that came back are stored first.
    """
    waiting, outcome, trust = deque(cells), Outcome(batch), trust or Trust()
    open_cells: list[CellProgress] = []
    running: dict[Future[list[Counts]], _Assigned] = {}

    def begin(cell: Cell) -> None:
        progress = CellProgress.resume(cell, certifier_of(cell), labels, store.tallies(cell.key))
        progress.audit = trust.audit(cell, store)
        open_cells.append(progress)
        observer.cell_started(cell, progress.decided)
        if cell.key in trust.refused:
            end(progress, trust.refused[cell.key])

    def end(progress: CellProgress, error: str | None = None) -> None:
        open_cells.remove(progress)
        trust.ended(progress.audit)
        trust.grown(progress.cell, progress.memory_growth())
        if error:
            outcome.errors[progress.cell.key] = error
            store.fail(progress.cell.key, error)
        observer.cell_ended(progress.cell, error)

    while waiting or open_cells:
        outcome.stopped = outcome.stopped or stop()
        if outcome.stopped and not running:
            break
        while len(running) < executor.slots and not outcome.stopped:
            assigned = _full_batch(open_cells, batch)
            if assigned is None and waiting and len(open_cells) < _OPEN:
                begin(waiting.popleft())
                continue
            if assigned is None and len(running) < executor.workers:
                assigned = _partial_batch(open_cells, batch)
            if assigned is None:
                break
            outcome.batches += not assigned.recount
            running[executor.submit(assigned.task)] = assigned
        failure: Exception | None = None  # raised after all finished batches are stored
        for future in _finished(running, timeout, executor):
            progress, _, recount = running.pop(future)
            counting = progress in open_cells  # else its cell has failed before
            try:
                counts = future.result()
                check(counts)
            except PluginFault as fault:
                if counting:
                    end(progress, _kept(fault, store.folder, progress.cell))
            except Exception as error:
                failure = error
            else:
                if recount and counting and (problem := progress.audit.compare(counts)):
                    end(progress, problem)
                elif not recount:
                    store.add(counts)
                    outcome.add(counts)
                    if counting:
                        observer.counted(progress.cell, counts, progress.add(counts))
        if failure is not None:
            raise failure
        for progress in [p for p in open_cells if p.done and p.audit.done]:
            end(progress)
    for progress in open_cells:  # of a sweep that was stopped
        trust.grown(progress.cell, progress.memory_growth())
    return outcome


def _finished(
    running: Mapping[Future[list[Counts]], _Assigned], timeout: float | None, executor: Executor
) -> Iterable[Future[list[Counts]]]:
    """The batches that have come back, after a wait for the first; raises RunError if none does in time."""
    if not running:
        return ()
    finished, _ = wait(running, timeout, FIRST_COMPLETED)
    if not finished:
        executor.abandon()
        raise RunError(timeout_message(timeout or 0.0, _named_all(running.values())))
    return finished


def _full_batch(open_cells: Sequence[CellProgress], batch: int) -> _Assigned | None:
    """A batch that is due for the audit of a cell, or else a full one of new draws."""
    for progress in open_cells:
        if (task := progress.audit.take(batch, last=progress.done)) is not None:
            return _Assigned(progress, task, recount=True)
    full = next((p for p in open_cells if p.fill(batch) >= batch), None)
    return None if full is None else _Assigned(full, full.take(batch))


def _partial_batch(open_cells: Sequence[CellProgress], batch: int) -> _Assigned | None:
    """The largest batch of new draws: a partial batch is better than an idle worker."""
    progress = max((p for p in open_cells if p.ready), key=lambda p: p.draws_ready, default=None)
    return None if progress is None else _Assigned(progress, progress.take(batch))


def _named_all(assigned: Iterable[_Assigned]) -> str:
    """The names of cells for a message."""
    return ", ".join(sorted({describe_cell(a.progress.cell) for a in assigned}))


def refuse_unreadable(
    cells: Sequence[Cell], certifier_of: Callable[[Cell], Requesting], labels: Mapping[int, int], store: Store
) -> set[str]:
    """Raise ValueError if the certifiers cannot read the stored counts, before the run changes its folder.

    Returns:
        The keys of the cells that lack draws.
    """
    unfinished = set()
    for cell in cells:
        certifier, counted = certifier_of(cell), store.tallies(cell.key)
        stored = set(counted) & set(labels)
        lacking = sum(bool(certifier.missing(tally_of(image, labels[image], counted))) for image in stored)
        if lacking or len(stored) < len(labels):
            unfinished.add(cell.key)
    return unfinished


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
    if fault.traceback:
        with suppress(OSError):  # the message matters more than its traceback
            path = write_file(make_subfolder(folder, "tracebacks") / f"{cell.key}.txt", fault.traceback)
            return f"{fault}; traceback in {path}"
    return str(fault)
