"""One worker process per core or GPU. Only this process and its children exchange pickles."""

from __future__ import annotations

import threading
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from typing import Any

import numpy as np

from bench.engine import Engine
from bench.engine.devices import prepare_device
from bench.errors import RunError
from bench.executors.assigning import Assigning, Worker
from bench.executors.base import MAX_DEATHS, Job, workers_died_message
from bench.executors.local import InProcess, Pipelined
from bench.executors.streams import tolerate
from bench.executors.worker import WorkerContext, end_with_parent, ignore_interrupts

_MEMORY = "Counts so far are stored. If memory ran out, give fewer --workers; `--workers 1` shows the crash itself"


@dataclass(eq=False, kw_only=True)
class _Worker(Worker):
    """A process with an engine on `device`. It takes pickled jobs from a queue and sends results by a connection."""

    ready: bool = False
    device: str
    process: Any
    tasks: Any
    results: Connection
    numbered: dict[int, Job] = field(default_factory=dict)  # the jobs by the numbers under which they were sent


class Processes(Assigning):
    """Worker processes with one engine each: one thread each on a CPU, one GPU each otherwise.

    Processes are faster than OpenMP threads for small networks: a second thread costs more than it gains, above all
    when another program occupies a core. A worker starts when there is a job for it. One that dies is replaced, and
    its jobs run again. A device on which no engine can be built is left out.

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
        super().__init__(notify)
        self._setup = images, weights, plugins
        self._idle_devices = deque(devices)
        if devices[0].startswith("cuda"):
            self.depth, self.begun = Pipelined.slots, 2
        self.workers, self.slots = len(devices), self.depth * len(devices)
        self._numbers = count()
        self._failed_starts = 0  # consecutive workers that died before they were ready
        # Else an executor that nobody closed would keep the interpreter from ending: it joins its child processes.
        Finalize(self, _end, (self._workers,), exitpriority=10)

    def close(self) -> None:
        with self._lock:
            self._fatal = CancelledError()
            for job in self._queue:
                job.future.cancel()
            self._queue.clear()
            workers = list(self._workers)
            for worker in workers:
                worker.tasks.put(None)
        for worker in workers:
            worker.process.join()

    def abandon(self) -> None:
        with self._lock:
            self._fail(CancelledError())
            _kill(self._workers)

    def _assign(self) -> None:
        """As `Assigning`, and start a worker for each job that no starting one will take."""
        super()._assign()
        while self._idle_devices and len(self._queue) > sum(not worker.ready for worker in self._workers):
            self._start(self._idle_devices.popleft())

    def _start(self, device: str) -> None:
        context = WorkerContext()
        # A queue sends from a thread of its own: a pipe that is full, because the worker still imports torch, would
        # block the driver.
        tasks = context.Queue()
        tasks.cancel_join_thread()  # nothing waits for a worker that reads no more
        results, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve, args=(tasks, theirs))
        process.start()
        theirs.close()  # so that the connection ends when the worker does
        images, weights, plugins = self._setup
        tasks.put((images, weights, device, plugins))
        worker = _Worker(device=device, process=process, tasks=tasks, results=results)
        self._workers.append(worker)
        threading.Thread(target=self._receive, args=(worker,), daemon=True).start()

    def _send(self, worker: _Worker, job: Job) -> None:
        number = next(self._numbers)
        # Pickled here: the queue's thread could not report an object that cannot be sent.
        worker.tasks.put(ForkingPickler.dumps((number, job.method, job.arguments)).tobytes())
        worker.numbered[number] = job

    def _receive(self, worker: _Worker) -> None:
        """Take the results of a worker until it ends. Runs in a thread of its own."""
        try:
            while True:
                try:
                    number, succeeded, result = worker.results.recv()
                except (EOFError, OSError):
                    break
                with self._lock:
                    self._take(worker, number, succeeded, result)
            worker.results.close()
            worker.process.kill()  # a thread of a plugin may keep it from ending
            worker.process.join()
            with self._lock:
                self._ended(worker)
        except Exception as error:  # without this thread nobody would be told
            with self._lock:
                self._fail(error)

    def _take(self, worker: _Worker, number: int | None, succeeded: bool, result: bytes) -> None:
        """Take a result, or the news that the worker is ready (number None), or why it never will be."""
        try:
            value = ForkingPickler.loads(result)
        except Exception as error:  # of a class that this process cannot make
            succeeded, value = False, RuntimeError(f"the result of a worker cannot be read: {error}")
        if number is None:
            worker.ready, self._failed_starts = succeeded, 0
            if not succeeded:
                self._leave_out(worker, value)
        else:
            job = worker.numbered.pop(number)
            if job in worker.jobs:  # else the executor was abandoned
                worker.jobs.remove(job)
                if succeeded:
                    job.future.set_result(value)
                else:
                    job.future.set_exception(value)
        if self._fatal is None:
            self._assign()

    def _ended(self, worker: _Worker) -> None:
        """Replace a worker that died; in the end there is nothing to replace."""
        if worker not in self._workers:
            return  # it was left out
        if self._fatal is not None:
            self._workers.remove(worker)
            for job in worker.jobs:
                job.future.set_exception(self._fatal)
        elif worker.ready:
            self._idle_devices.append(worker.device)
            self._remove(worker, f"exit code {worker.process.exitcode}")
            self._assign()
        else:
            self._failed_starts += 1
            if self._failed_starts < MAX_DEATHS:
                self._workers.remove(worker)
                self._idle_devices.append(worker.device)
                self._notify("a worker died as it started")
            else:
                self._leave_out(worker, RunError(f"{MAX_DEATHS} workers died as they started. {_MEMORY}"))
            self._assign()

    def _leave_out(self, worker: _Worker, error: Exception) -> None:
        """Count without the device of a worker that has no engine."""
        self._workers.remove(worker)
        self.workers, self.slots = max(1, self.workers - 1), max(self.depth, self.slots - self.depth)
        if self._workers or self._idle_devices:
            self._notify(f"a worker is left out: {error}")
        else:
            self._fail(error)

    def _given_up(self, jobs: list[Job], reason: str) -> Exception:
        return RunError(workers_died_message(", ".join(sorted({job.subject for job in jobs}))))


def _kill(workers: list[_Worker]) -> None:
    for worker in list(workers):
        worker.process.kill()


def _end(workers: list[_Worker]) -> None:
    """Kill the workers of an executor that nobody closed; one that is forgotten is not replaced."""
    killed = workers[:]
    workers.clear()
    _kill(killed)


def _serve(tasks: Any, results: Connection) -> None:
    """The life of a worker process: its signals, its end with the parent, its streams, its engine, its jobs."""
    ignore_interrupts()
    end_with_parent()
    tolerate()  # a plugin that prints must not fail where the driver's reader has gone
    images, weights, device, plugins = tasks.get()
    try:
        engine = Engine(images, weights, prepare_device(device), plugins)
    except Exception as error:
        results.send((None, False, _pickled_error(error)))
        return
    results.send((None, True, ForkingPickler.dumps(None).tobytes()))
    _work_on(tasks, results, Pipelined(engine) if engine.device.type == "cuda" else InProcess(engine))


def _work_on(tasks: Any, results: Connection, executor: InProcess | Pipelined) -> None:
    """Run the jobs that come by a queue, until None comes."""
    while (sent := tasks.get()) is not None:
        number, method, arguments = ForkingPickler.loads(sent)
        job = Job("", method, arguments)
        job.future.add_done_callback(partial(_report, results, number))  # before it runs: one thread sends
        executor._submit(job)
    executor.close()
    if isinstance(executor, Pipelined):
        executor.join()


def _report(results: Connection, number: int, done: Future[Any]) -> None:
    """Send the result of a job to the driver, or its error with the traceback of this process."""
    error = done.exception()
    try:
        result = b"" if error else ForkingPickler.dumps(done.result()).tobytes()
    except Exception as problem:  # it cannot be sent
        error = problem
    results.send((number, error is None, _pickled_error(error) if error else result))


def _pickled_error(error: BaseException) -> bytes:
    """An error with its traceback, or its text where the error itself cannot be sent."""
    text = "".join(traceback.format_exception(error))
    try:
        error.add_note(text)
        sent = ForkingPickler.dumps(error).tobytes()
        ForkingPickler.loads(sent)
    except Exception:  # of a plugin, with arguments of its own
        told = RuntimeError("".join(traceback.format_exception_only(error)).strip())
        told.add_note(text)
        sent = ForkingPickler.dumps(told).tobytes()
    return sent
