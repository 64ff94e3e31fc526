"""Executors in this process: one that runs a task at once, and one that begins the next before the last has ended."""

from __future__ import annotations

import faulthandler
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from bench.engine import Engine
from bench.executors.base import Executor, Job, perform, timeout_message

_GRACE = 30  # seconds after the timeout for the watching thread to report, before faulthandler ends the process


class InProcess(Executor):
    """Runs each task in this process, when it is submitted. A task that exceeds the timeout ends the process."""

    workers = slots = 1

    def __init__(self, engine: Engine, timeout: float = 0.0):
        self.engine, self.timeout = engine, timeout

    def _submit(self, job: Job) -> Future[Any]:
        """A completed future."""
        with _time_limit(self.timeout if isinstance(job.method, str) else 0.0, job.subject):
            _resolve(job, partial(perform, self.engine, job.method, job.arguments))
        return job.future


class Pipelined(Executor):
    """Runs tasks in a thread of this process, two at a time: a GPU computes one while the host begins the next.

    The other threads pack tasks, certify and store meanwhile.
    """

    workers, slots = 1, 3  # one whose counts are read, one that computes, one queued

    def __init__(self, engine: Engine):
        self.engine = engine
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _submit(self, job: Job) -> Future[Any]:
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        self._jobs.put(None)

    abandon = close  # the thread is a daemon: a hanging task ends with the process

    def join(self) -> None:
        """Wait for the jobs that were submitted before `close`."""
        self._thread.join()

    def _work(self) -> None:
        begun: tuple[Job, Callable[[], Any]] | None = None
        while True:
            try:
                job = self._jobs.get(block=begun is None)
            except Empty:
                assert begun is not None
                _resolve(*begun)
                begun = None
                continue
            if job is None:
                break
            earlier, begun = begun, None
            if job.method == "run":
                with _failing(job):
                    begun = job, self.engine.begin(*job.arguments)
            if earlier is not None:
                _resolve(*earlier)
            if job.method != "run":
                _resolve(job, partial(perform, self.engine, job.method, job.arguments))
        if begun is not None:
            _resolve(*begun)


@contextmanager
def _failing(job: Job) -> Iterator[None]:
    """Make an exception inside the context that of the job."""
    try:
        yield
    except SystemExit as error:
        job.future.set_exception(RuntimeError(f"a plugin ended the process: {error!r}"))
    except Exception as error:
        job.future.set_exception(error)


def _resolve(job: Job, call: Callable[[], Any]) -> None:
    """Make the result of a call, or its exception, that of a job."""
    with _failing(job):
        job.future.set_result(call())


@contextmanager
def _time_limit(seconds: float, subject: str) -> Iterator[None]:
    """End the process if the context takes longer than `seconds` (0: no limit); a hanging plugin cannot be stopped."""
    if not seconds:
        yield
        return
    watch = threading.Timer(seconds, _exit_as_hung, (seconds, subject))
    watch.daemon = True
    watch.start()
    if sys.__stderr__ is not None:  # sys.stderr may have no file descriptor
        # Native code that holds the interpreter lock stops the timer, too; faulthandler needs no interpreter.
        faulthandler.dump_traceback_later(seconds + _GRACE, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        watch.cancel()
        faulthandler.cancel_dump_traceback_later()


def _exit_as_hung(seconds: float, subject: str) -> None:
    """Print the traceback of every thread and the remedy, and exit with status 2 whatever other threads do."""
    try:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__)
            print(f"error: {timeout_message(seconds, subject)}", file=sys.__stderr__, flush=True)
    finally:
        os._exit(2)
