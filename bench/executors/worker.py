"""Worker processes: they leave signals to the driver, and end when the driver ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import SpawnContext, SpawnProcess

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)  # a terminal, systemd and SLURM send them to all processes of a run


class _WorkerProcess(SpawnProcess):
    """A process that ignores interrupts from its start, so that the driver alone decides how the run ends."""

    def start(self) -> None:
        # The child inherits the mask and keeps it until `ignore_interrupts`: importing torch comes before that.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def terminate(self) -> None:
        """Same as `kill`: a broken pool terminates its other workers with SIGTERM, which they ignore."""
        self.kill()


class WorkerContext(SpawnContext):
    """The `spawn` context of multiprocessing with `_WorkerProcess` as its process."""

    Process = _WorkerProcess  # type: ignore[assignment]


def ignore_interrupts() -> None:
    """Ignore SIGINT and SIGTERM in this process, including those that are blocked and pending."""
    for number in _INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)


def end_with_parent() -> None:
    """End this process when its parent ends, so that a killed driver leaves no worker behind."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
