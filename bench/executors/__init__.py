"""Where tasks run. An executor takes a task and gives a future of its counts; the driver alone writes the store."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Protocol

from bench.engine import Task
from bench.types import Counts


class Executor(Protocol):
    """Runs tasks somewhere. `slots` tasks keep it busy."""

    slots: int

    def submit(self, task: Task) -> Future[list[Counts]]: ...

    def close(self) -> None:
        """Stop; tasks that have not started are dropped."""
        ...
