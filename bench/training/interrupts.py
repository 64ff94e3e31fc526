"""Ctrl-C in trainings: a worker ends its step and saves its state; where it has nothing to save, it ends at once."""

from __future__ import annotations

import _thread
import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event
from typing import Any

from bench.errors import TimeOver
from bench.executors.worker import end_with_parent

_requested = False  # in a worker: the driver wants it to stop
_training = False  # a stage is being trained
_stepping = False  # its steps have begun, each of which asks whether to stop


def begin_worker(wanted: Event) -> None:
    """Initialise a worker process: it stops once `wanted` is set, and ends with its parent."""
    end_with_parent()
    signal.signal(signal.SIGINT, _stop)  # a terminal sends it to the workers, too
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))  # blocked since its start

    def watch() -> None:
        wanted.wait()
        _thread.interrupt_main()  # runs `_stop` in the main thread

    threading.Thread(target=watch, daemon=True).start()


def _stop(*_: Any) -> None:
    global _requested
    first, _requested = not _requested, True
    if first and _training and not _stepping:
        raise KeyboardInterrupt


def _is_requested() -> bool:
    """Whether to stop; asked before every step, after which an interrupt waits for the end of a step."""
    global _stepping
    _stepping = _training
    return _requested


def end_of_steps() -> None:
    """The state of the training is saved: an interrupt ends it at once, now and from now on."""
    global _stepping
    _stepping = False
    if _training and _requested:
        raise KeyboardInterrupt


@contextmanager
def stage_of_worker(name: str) -> Iterator[Callable[[], bool]]:
    """A function for `Job.stop`, inside of which a stage is trained.

    Raises:
        TimeOver: the stage was stopped, here or by its `stop`.
    """
    global _training
    _training = True
    try:
        if _requested:
            raise KeyboardInterrupt
        yield _is_requested
    except KeyboardInterrupt:
        raise TimeOver(f"{name} is stopped between its steps") from None
    finally:
        _training = False
        end_of_steps()  # raises nothing here


@contextmanager
def stop_by_interrupt(wanted: Event, say: Callable[[str], object]) -> Iterator[Callable[[], bool]]:
    """In the driver: a function that returns True after Ctrl-C, which sets `wanted`; a second one kills the workers."""
    pressed = False

    def note(*_: Any) -> None:
        nonlocal pressed
        if pressed:
            for worker in multiprocessing.active_children():
                worker.kill()
            raise KeyboardInterrupt
        pressed = True
        wanted.set()
        say("stopping: every training ends its step and saves its state; press again to stop at once")

    if threading.current_thread() is not threading.main_thread():  # which alone receives signals
        yield lambda: False
        return
    previous = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, previous)
