"""The contract of an executor, and the messages that executors share.

An executor takes a task and returns a future of its counts. Only the driver writes to the store.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from bench.records import Cell, Counts, Shown, Task


class Executor(Protocol):
    """Runs tasks on `workers` workers at once. `slots` submitted tasks keep all of them busy, some of them queued."""

    @property
    def workers(self) -> int: ...

    @property
    def slots(self) -> int: ...

    def submit(self, task: Task) -> Future[list[Counts]]: ...

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        """One draw of some images, for display; see `Engine.show`."""
        ...

    def close(self) -> None:
        """Stop after the running tasks; queued tasks are dropped."""
        ...

    def abandon(self) -> None:
        """Stop at once and kill running tasks."""
        ...


def describe(cell: Cell) -> str:
    """A cell in an error message: `pf-ode(steps=4) at sigma = 0.5`."""
    return f"{cell.label} at sigma = {cell.sigma:g}"


def workers_died_message(cells: str) -> str:
    """Error message of a run that ends because some batches kill every worker that takes them."""
    return (
        f"worker processes died repeatedly (out of memory, or killed); the running batches belonged to: {cells}. "
        "Counts so far are stored, and the same command continues. Try a smaller --batch or fewer --workers; "
        "`--workers 1` shows the crash itself, and `bench summary` names purifiers whose memory kept growing"
    )


def timeout_message(seconds: float, cells: str) -> str:
    """Error message of a run that ends because no batch returned within `seconds`."""
    return (
        f"no batch returned within {seconds:g} s, so the run was ended; the running batches belonged to: {cells}. "
        "Counts so far are stored. If nothing hangs, give a preset with a longer `timeout`"
    )
