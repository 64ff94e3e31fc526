"""This machine: in this process, or in one process per core or GPU."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from bench.engine.devices import prepare_device
from bench.engine.engine import Engine
from bench.executors.base import died, named, overdue
from bench.executors.worker import Workers, end_with_parent, ignore_interrupts
from bench.records import Cell, Counts, Shown, Task

Result = TypeVar("Result")
GRACE = 30  # seconds that a process has to say that it hung
DEATHS = 3  # of a worker while a batch is under way, before the batch is given up
_engine: Engine | None = None  # of a worker process


class InProcess:
    """One task at a time, here and now."""

    workers = slots = 1

    def __init__(self, engine: Engine, timeout: float = 0.0):
        self.engine, self.timeout = engine, timeout

    def submit(self, task: Task) -> Future[list[Counts]]:
        """A future that is done; a task that takes longer than the timeout ends the process, and says where it hung."""
        with in_time(self.timeout, task.cell):
            return at_once(self.engine.run, task)

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        with in_time(self.timeout, cell):
            return at_once(self.engine.show, cell, images, draw)

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


@contextmanager
def in_time(seconds: float, cell: Cell) -> Iterator[None]:
    """End the process where what is done within takes longer (0: however long): a hanging plugin cannot be stopped."""
    if not seconds:
        yield
        return
    watch = threading.Timer(seconds, end_as_hung, (seconds, cell))
    watch.daemon = True
    watch.start()
    if sys.__stderr__ is not None:  # sys.stderr may be no file
        # Where the plugin lets no other thread run, neither runs ours; this one needs no interpreter, and says less.
        faulthandler.dump_traceback_later(seconds + GRACE, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        watch.cancel()
        faulthandler.cancel_dump_traceback_later()


def end_as_hung(seconds: float, cell: Cell) -> None:
    """Say where it hangs and what to do, and end the process as refused, whatever its other threads do."""
    try:
        if sys.__stderr__ is not None:
            faulthandler.dump_traceback(sys.__stderr__)
            print(f"error: {overdue(seconds, named(cell))}", file=sys.__stderr__, flush=True)
    finally:
        os._exit(2)


@dataclass
class Job:
    """A call in a worker, for a cell, and the future of its result."""

    cell: Cell
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    deaths: int = 0


class Processes:
    """Worker processes, each with an engine of its own: one thread each on a CPU, one GPU each otherwise.

    Small networks lose more to a second OpenMP thread than they gain, and all of it when another program holds a
    core; processes do not. When one dies, others take the place of all, and what was under way is done again: a pool
    does not say which of its workers had what.

    Parameters:
        notify: is told when a worker dies.
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
        self.slots = 2 * len(devices)  # one that runs and one that waits, for each
        self._lock = threading.Lock()  # of the two below; no pool is asked for anything under it, which has its own
        self._ended = False
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        context = Workers()
        # Engines travel by a queue, whose thread sends them: as arguments they would make each start wait for the
        # last worker's imports.
        assigned = context.Queue()
        assigned.cancel_join_thread()  # a worker that is never needed takes nothing, and must not keep us waiting
        for engine in self._engines:
            assigned.put(engine)
        return ProcessPoolExecutor(self.workers, context, start_worker, (assigned,))

    def submit(self, task: Task) -> Future[list[Counts]]:
        return self._submit(Job(task.cell, run_task, (task,)))

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        return self._submit(Job(cell, show_images, (cell, images, draw)))

    def close(self) -> None:
        with self._lock:
            self._ended = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def abandon(self) -> None:
        with self._lock:
            self._ended = True
        for process in list((self._pool._processes or {}).values()):
            process.kill()
        if self._pool._result_queue is not None:  # who is killed in the middle of an answer must not be waited for
            self._pool._result_queue._writer.close()  # type: ignore[attr-defined]

    def _submit(self, job: Job) -> Future[Any]:
        while True:
            pool = self._pool
            try:
                running = pool.submit(job.function, *job.arguments)
            except BrokenProcessPool:
                if not self._replace(pool):
                    raise
            else:
                running.add_done_callback(partial(self._landed, job, pool))
                return job.future

    def _landed(self, job: Job, pool: ProcessPoolExecutor, done: Future[Any]) -> None:
        """Pass on what became of a job, or do it again where its pool broke; in a thread of the pool."""
        if done.cancelled():
            job.future.cancel()
            return
        error = done.exception()
        if error is None:
            job.future.set_result(done.result())
        elif not isinstance(error, BrokenProcessPool):
            job.future.set_exception(error)
        else:
            job.deaths += 1
            try:
                if job.deaths == DEATHS or not self._replace(pool):
                    raise BrokenProcessPool(died(named(job.cell))) from error
                self._submit(job)
            except Exception as final:
                job.future.set_exception(final)

    def _replace(self, broken: ProcessPoolExecutor) -> bool:
        """See to it that there is another pool than the broken one; False where all has ended."""
        with self._lock:
            first = self._pool is broken and not self._ended
            if first:
                self._pool = self._new_pool()
        if first:
            self._notify("a worker process died; what was under way is counted anew by others")
        return not self._ended


def start_worker(assigned: multiprocessing.Queue) -> None:
    """Make this process's engine, and end with the parent."""
    global _engine
    ignore_interrupts()
    end_with_parent()
    images, weights, device, plugins = assigned.get()
    _engine = Engine(images, weights, prepare_device(device), plugins)


def run_task(task: Task) -> list[Counts]:
    assert _engine is not None
    return _engine.run(task)


def show_images(cell: Cell, images: Sequence[int], draw: int) -> Shown:
    assert _engine is not None
    return _engine.show(cell, images, draw)


def at_once(function: Callable[..., Result], *arguments: object) -> Future[Result]:
    """A future that is done: the function's result, or what it raised."""
    future: Future[Result] = Future()
    try:
        future.set_result(function(*arguments))
    except Exception as error:
        future.set_exception(error)
    return future
