"""The contract of an executor, and the jobs and messages that executors share.

An executor takes a task and returns a future of its counts. Only the driver writes to the store.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench.records import Cell, Counts, Shown, StaticCost, Task

if TYPE_CHECKING:
    from bench.engine import Examination

MAX_DEATHS = 3  # deaths of workers that a job may see before it is given up


@dataclass(eq=False)
class Job:
    """A call of a method of an engine, or of a function of an engine, and the future of its result.

    Attributes:
        subject: of the call, in messages.
        deaths: of workers that ran the job.
    """

    subject: str
    method: str | Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    deaths: int = 0


class Executor:
    """Runs tasks on `workers` workers at once. `slots` submitted tasks keep all of them busy, some of them queued."""

    workers: int
    slots: int

    def submit(self, task: Task) -> Future[list[Counts]]:
        return self._submit(Job(describe_cell(task.cell), "run", (task,)))

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        """One draw of some images, for display; see `Engine.show`."""
        return self._submit(Job(describe_cell(cell), "show", (cell, images, draw)))

    def examine(self, cell: Cell, plugin: str, rows: int) -> Future[Examination]:
        """Check the contract of a cell's purifier or classifier; see `Engine.examine`."""
        return self._submit(Job(f"the check of the {plugin} of {describe_cell(cell)}", "examine", (cell, plugin, rows)))

    def weigh(self, cells: Sequence[Cell]) -> Future[list[StaticCost | str]]:
        """The static cost of each cell, or why it is not known; see `Engine.weigh`."""
        return self._submit(Job(f"the FLOPs of {len(cells)} cells", "weigh", (cells,)))

    def call(self, subject: str, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """`function(engine, *arguments)` on a worker, without a time limit; messages name the subject."""
        return self._submit(Job(subject, function, arguments))

    def _submit(self, job: Job) -> Future[Any]:
        raise NotImplementedError

    def close(self) -> None:
        """Stop after the tasks that workers have; others are dropped."""

    def abandon(self) -> None:
        """Stop at once and kill running tasks."""

    def __enter__(self) -> Executor:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """Close it; after an error nobody would take its results, so nothing is waited for."""
        if error is not None:
            self.abandon()
        self.close()


def perform(engine: Any, method: str | Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """The result of a job."""
    return getattr(engine, method)(*arguments) if isinstance(method, str) else method(engine, *arguments)


def describe_cell(cell: Cell) -> str:
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
