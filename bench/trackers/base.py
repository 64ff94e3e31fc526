"""The callbacks of a run, and the guard that keeps their errors away from the counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from bench.files import first_line
from bench.records import Cell, Counts
from bench.summary import Summary
from bench.sweep import Observer

_Observing = Callable[[Sequence[Cell], int], AbstractContextManager[Observer]]


class Callback:
    """Receives the events of a run in its own process; this one ignores them. Override what you need.

    A method that raises is told once, and the callback is not called again; the run goes on. A slow one slows the run.

    Attributes:
        name: in messages.
    """

    name = "the callback"

    def on_block(self, cell: Cell, counts: Counts) -> None:
        """A block of draws of a cell was counted and stored."""

    def on_cell(self, cell: Cell, error: str | None) -> None:
        """A cell is complete, or failed with this error."""

    def on_end(self, summary: Summary | None) -> None:
        """The run has ended, with all figures; None if it was interrupted, ran out of time, or could not go on."""


class Reports:
    """The callbacks of one run, each until it fails."""

    def __init__(self, callbacks: Sequence[Callback], notify: Callable[[str], object]):
        self._active, self._notify, self._ended = list(callbacks), notify, False

    def call(self, event: str, *facts: Any) -> None:
        """Call a method of every callback that has not failed."""
        for callback in list(self._active):
            try:
                getattr(callback, event)(*facts)
            except Exception as error:
                self._active.remove(callback)
                what = f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")
                self._notify(f"{callback.name} failed ({what}) and is not called again; the run goes on")

    def end(self, summary: Summary | None) -> None:
        """Tell the end of the run, once."""
        if not self._ended:
            self._ended = True
            self.call("on_end", summary)

    def observed(self, observe: _Observing) -> _Observing:
        """The same observer, with the callbacks beside it."""

        @contextmanager
        def both(cells: Sequence[Cell], images: int) -> Iterator[Observer]:
            with observe(cells, images) as first:
                yield _Both(first, self) if self._active else first

        return both


@contextmanager
def reporting(callbacks: Sequence[Callback], notify: Callable[[str], object]) -> Iterator[Reports]:
    """The reports of a run; on leaving, callbacks are told that it did not end, unless they were told its end."""
    reports = Reports(callbacks, notify)
    try:
        yield reports
    finally:
        reports.end(None)


class _Both(Observer):
    """An observer of a sweep, and callbacks."""

    def __init__(self, first: Observer, reports: Reports):
        self._first, self._reports = first, reports

    def cell_started(self, cell: Cell, decided: int) -> None:
        self._first.cell_started(cell, decided)

    def counted(self, cell: Cell, counts: Sequence[Counts], decided: int) -> None:
        self._first.counted(cell, counts, decided)
        for block in counts:
            self._reports.call("on_block", cell, block)

    def cell_ended(self, cell: Cell, error: str | None) -> None:
        self._first.cell_ended(cell, error)
        self._reports.call("on_cell", cell, error)
