"""Where tasks run. An executor takes a task and gives a future of its counts; the driver alone writes the store."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from bench.records import Cell, Counts, Shown, Task


class Executor(Protocol):
    """Runs tasks somewhere: `workers` of them at once; `slots` keep it busy, with some that wait their turn."""

    @property
    def workers(self) -> int: ...

    @property
    def slots(self) -> int: ...

    def submit(self, task: Task) -> Future[list[Counts]]: ...

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        """A draw of some images, to look at; see `Engine.show`."""
        ...

    def close(self) -> None:
        """Stop; tasks that have not started are dropped."""
        ...

    def abandon(self) -> None:
        """Stop at once: what runs is killed."""
        ...


def named(cell: Cell) -> str:
    return f"{cell.label} at sigma = {cell.sigma:g}"


def died(cells: str) -> str:
    """What a run says that ends because batches of some cells end whatever worker takes them."""
    return (
        f"worker processes died again and again (out of memory, or killed); on the way were: {cells}. What was counted "
        "is stored, and the same command continues. Try a smaller --batch or fewer --workers; `--workers 1` shows a "
        "crash where it happens, and `bench summary` names purifiers whose memory kept growing"
    )


def overdue(seconds: float, cells: str) -> str:
    """What a run says that ends because nothing came back in so many seconds."""
    return (
        f"no batch came back for {seconds:g} s, so the run was ended; on the way were: {cells}. What was counted is "
        "stored. Where nothing hangs, give a preset with a longer `timeout`"
    )
