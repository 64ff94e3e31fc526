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
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from bench.engine import Engine, Shown, Task
from bench.executors import died, named, overdue
from bench.executors.spawned import Workers, end_with_parent, ignore_interrupts
from bench.meter import processor_flags
from bench.types import Cell, Counts

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


def prepare_device(name: str) -> torch.device:
    """Set a process up for one device: one thread on a CPU, float32 meaning float32."""
    device = torch.device(name)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cpu":
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    return device


def choose_devices(device: str, workers: int) -> list[str]:
    """The devices of the worker processes, `workers` of them (0: one per core, or per GPU).

    Raises:
        ValueError: CUDA was asked for and there is none.
    """
    gpus = torch.cuda.device_count()
    if device.startswith("cuda") and not gpus:
        raise ValueError("device cuda was asked for, but torch finds no GPU here; use --device cpu")
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda":
        return [f"cuda:{i % gpus}" for i in range(workers or gpus)]
    if device == "cpu":
        return ["cpu"] * (workers or cores())
    return [device] * (workers or 1)


def choose_precision(precision: str, device: str) -> str:
    """`auto` as bf16 where the device has instructions for it, and as fp32 elsewhere; others as they are."""
    if precision != "auto":
        return precision
    if device.startswith("cuda"):
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if processor_flags() & {"avx512_bf16", "amx_bf16"} else "fp32"


def cores() -> int:
    """Cores that this process may use: those it is bound to, within a container's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return bound if quota == "max" else max(1, min(bound, int(quota) // int(period)))
    except (OSError, ValueError):
        return bound
