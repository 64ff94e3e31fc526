"""Processes that a driver starts: interrupts are left to it, and they end when it does."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess

INTERRUPTS = (signal.SIGINT, signal.SIGTERM)  # a terminal, systemd and SLURM send them to all processes of a run


class WorkerProcess(SpawnProcess):
    """A process that interrupts do not reach, from its first moment on: its driver decides how the run ends."""

    def start(self) -> None:
        with held_back():  # and in the new process until `ignore_interrupts`, for it imports torch before
            super().start()

    def terminate(self) -> None:
        """As `kill`: a pool whose worker died ends the others by this, and they ignore SIGTERM."""
        self.kill()


class Workers(SpawnContext):
    Process = WorkerProcess  # type: ignore[assignment]


@contextmanager
def held_back() -> Iterator[None]:
    """Interrupts wait until the end of this, in this thread; in a process that it starts, until it lets them come."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """Leave them to the driver from here on; those that were held back are dropped."""
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)


def end_with_parent() -> None:
    """Let this process end when the one that started it does: what is killed leaves no worker behind."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
