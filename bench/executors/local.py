"""Executors of this machine: in this process, or in one worker process per core or GPU."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from bench.engine import Engine
from bench.engine.devices import prepare_device
from bench.executors.base import MAX_DEATHS, Executor, Job, timeout_message, workers_died_message
from bench.executors.streams import tolerate
from bench.executors.worker import WorkerContext, end_with_parent, ignore_interrupts

_GRACE = 30  # seconds after the timeout for the watching thread to report, before faulthandler ends the process
_engine: Engine | None = None  # the engine of a worker process


class InProcess(Executor):
    """Runs each task in this process, when it is submitted. A task that exceeds the timeout ends the process."""

    workers = slots = 1

    def __init__(self, engine: Engine, timeout: float = 0.0):
        self.engine, self.timeout = engine, timeout

    def _submit(self, job: Job) -> Future[Any]:
        """A completed future."""
        with _time_limit(self.timeout, job.subject):
            _resolve(job, lambda: getattr(self.engine, job.method)(*job.arguments))
        return job.future


class Pipelined(Executor):
    """Runs tasks in a thread of this process, two at a time: a GPU computes one while the host begins the next.

    The other threads pack tasks, certify and store meanwhile.
    """

    workers, slots = 1, 3  # one whose counts are read, one that computes, one queued

    def __init__(self, engine: Engine):
        self.engine = engine
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        threading.Thread(target=self._work, daemon=True).start()

    def _submit(self, job: Job) -> Future[Any]:
        self._jobs.put(job)
        return job.future

    def close(self) -> None:
        self._jobs.put(None)

    abandon = close  # the thread is a daemon: a hanging task ends with the process

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
                _resolve(job, partial(getattr(self.engine, job.method), *job.arguments))
        if begun is not None:
            _resolve(*begun)


@contextmanager
def _failing(job: Job) -> Iterator[None]:
    """Make an exception inside the context that of the job."""
    try:
        yield
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


class Processes(Executor):
    """Worker processes with one engine each: one thread each on a CPU, one GPU each otherwise.

    Processes are faster than OpenMP threads for small networks: a second thread costs more than it gains, above all
    when another program occupies a core. When a worker dies, a new pool replaces all workers and every running batch
    is computed again, because a pool does not report which worker ran which batch.

    Parameters:
        images: clean images `[C,H,W]` in [0,1] by index.
        weights, plugins: as an `Engine` takes them.
        devices: the device of each worker.
        notify: called with a message when a worker dies.
    """

    def __init__(
        self,
        images: Mapping[int, np.ndarray],
        weights: Mapping[str, str],
        devices: list[str],
        plugins: Mapping[str, Mapping[str, str]],
        notify: Callable[[str], object] = lambda message: None,
    ):
        self._engines = [(images, weights, device, plugins) for device in devices]
        self._notify = notify
        self.workers = len(devices)
        self.slots = 2 * len(devices)  # one running and one queued task for each worker
        self._lock = threading.Lock()  # guards the next two; never held during a pool's own calls, which lock the pool
        self._ended = False
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = WorkerContext()
        # A queue sends the engines' arguments from its own thread. As arguments of the process they would make each
        # start wait until the worker before it has imported torch.
        assigned = context.Queue()
        assigned.cancel_join_thread()  # a worker that never starts leaves its item in the queue
        for engine in self._engines:
            assigned.put(engine)
        return ProcessPoolExecutor(self.workers, context, _start_worker, (assigned,))

    def close(self) -> None:
        with self._lock:
            self._ended = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def abandon(self) -> None:
        with self._lock:
            self._ended = True
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        # A worker killed while it writes a result would block the pool's reader until this end is closed.
        if self._pool._result_queue is not None:
            self._pool._result_queue._writer.close()  # type: ignore[attr-defined]

    def _submit(self, job: Job) -> Future[Any]:
        while True:
            pool = self._pool
            try:
                running = pool.submit(_call_engine, job.method, *job.arguments)
            except BrokenProcessPool:
                if not self._replace(pool):
                    raise
            else:
                running.add_done_callback(partial(self._finished, job, pool))
                return job.future

    def _finished(self, job: Job, pool: ProcessPoolExecutor, done: Future[Any]) -> None:
        """Pass on the result or the error of a job, or submit it again if its pool broke. Runs in a pool's thread."""
        if done.cancelled():
            job.future.cancel()
            return
        try:
            job.future.set_result(done.result())
        except BrokenProcessPool as error:
            job.deaths += 1
            try:
                if job.deaths == MAX_DEATHS or not self._replace(pool):
                    raise BrokenProcessPool(workers_died_message(job.subject)) from error
                self._submit(job)
            except Exception as final:
                job.future.set_exception(final)
        except BaseException as error:  # as the task raised it
            job.future.set_exception(error)

    def _replace(self, broken: ProcessPoolExecutor) -> bool:
        """Replace a broken pool unless another thread already has; False if the executor is closed."""
        with self._lock:
            first = self._pool is broken and not self._ended
            if first:
                self._pool = self._new_pool()
        if first:
            self._notify("a worker process died; new workers repeat its batches")
        return not self._ended


def _start_worker(assigned: multiprocessing.Queue) -> None:
    """Initialise a worker process: its signals, its end with the parent, its streams, its engine."""
    global _engine
    ignore_interrupts()
    end_with_parent()
    tolerate()  # a plugin that prints must not fail where the driver's reader has gone
    images, weights, device, plugins = assigned.get()
    _engine = Engine(images, weights, prepare_device(device), plugins)


def _call_engine(method: str, *arguments: Any) -> Any:
    """Call a method of the engine of this worker process."""
    return getattr(_engine, method)(*arguments)
