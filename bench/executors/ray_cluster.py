"""Run tasks on a Ray cluster: an engine in an actor for each GPU, or CPU.

The driver deals tasks out and alone writes the store. A worker that dies is replaced, and what it had is dealt out
anew: a block that was counted twice for it is stored once, and its votes are the same.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.engine import tuning_cache as speed_cache
from bench.engine.autotune import TuningRequest
from bench.errors import PurifyBenchError
from bench.executors.base import named
from bench.executors.files import Luggage
from bench.executors.ray_connection import Cluster
from bench.executors.ray_worker import RemoteEngine, libraries
from bench.provenance import code_digest
from bench.records import Cell, Counts, Shown, Task

DEEP = 2  # tasks that a worker has: one that runs and one that waits
DEATHS = 3  # workers that may die of a task, or while they start, before it is given up


class WorkerDied(PurifyBenchError, RuntimeError):
    """Workers die again and again; what was counted is stored."""


@dataclass
class Job:
    """A call of an engine's method, and the future of its result; `what` it is, in words."""

    what: str
    method: str
    arguments: tuple[Any, ...]
    future: Future[Any] = field(default_factory=Future)
    deaths: int = 0


@dataclass(eq=False)
class Worker:
    """An actor, and the jobs that it has, in the order in which it does them."""

    actor: Any
    device: str | None = None  # its name, once the worker is ready
    jobs: deque[Job] = field(default_factory=deque)


class RayCluster:
    """Deals tasks out to the workers of a cluster, once they are started; see `Executor`.

    Parameters:
        cluster: where; it is closed with this.
        images: clean images `[C,H,W]` in [0,1] by index.
        weights, plugin_files: as an `Engine` takes them.
        cell: any cell of the sweep; all have the same classifier.
        patience: seconds in which the first worker must be ready.
        notify: is told when a worker dies.
    """

    engine: type = RemoteEngine

    def __init__(
        self,
        cluster: Cluster,
        images: Mapping[int, np.ndarray],
        weights: Mapping[str, str],
        plugin_files: Mapping[str, Mapping[str, str]],
        cell: Cell,
        patience: float,
        notify: Callable[[str], object] = lambda message: None,
    ):
        self._cluster, self._ray, self._patience, self._notify = cluster, cluster.ray, patience, notify
        self._actor = cluster.ray.remote(max_restarts=0, **cluster.resources)(self.engine)
        device = "cuda:0" if cluster.devices[0] == "cuda" else "cpu"  # Ray shows a worker its own GPU only
        put, get = cluster.ray.put, cluster.ray.get
        stacked = put(np.stack(list(images.values())))
        luggage = Luggage.of(weights, plugin_files, cell.classifier, cell.classifier_parameters, put)
        self._setup = device, code_digest(), libraries(), list(images), stacked, luggage, get
        self._room = len(cluster.devices)  # workers that there may be: one less for each that is not fit
        self._workers: list[Worker] = []
        self._waiting: deque[Job] = deque()
        self._stillborn = 0  # workers in a row that died while they started
        self._broken: Exception | None = None  # why no worker will ever be ready
        self._lock = threading.RLock()
        self._started = threading.Event()
        self._events: queue.SimpleQueue[tuple[Worker, Job | None, Future] | None] = queue.SimpleQueue()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def start(self, workers: int | None = None) -> None:
        """Ask for so many workers, by default all that there is room for, and wait until one of them is ready.

        Raises:
            RuntimeError: none is ready in time, or no machine is fit (`remote.Unfit`).
        """
        with self._lock:
            self._hire(workers or self._room)
        if not self._started.wait(self._patience):
            free = {k: v for k, v in self._ray.available_resources().items() if k in ("CPU", "GPU")}
            raise RuntimeError(
                f"no worker was ready within {self._patience:g} s: the Ray cluster has {free or 'nothing'} free, and "
                f"each asks for {self._cluster.resources}; wait for others to end, or give a preset with a longer "
                "`timeout`"
            )
        if self._broken is not None:
            raise self._broken

    def measure(self, question: TuningRequest) -> dict[str, Any]:
        """As `autotune.tune`, by one worker while there is no other that would disturb it.

        It is kept in the user's cache there and here, so that whichever of several machines of a kind is asked next,
        the same command goes on with the same cells.

        Raises:
            RuntimeError: as `start`; or it was not done in time, or killed one worker after another.
            LoadError: a network cannot be loaded or compiled there.
        """
        self.start(1)
        device = next((worker.device for worker in self._workers if worker.device), "")
        if (kept := speed_cache.recall(question.facts(device))) is not None:
            return {"device": device, **kept}
        self._notify("one worker measures how these networks compute fastest on its device; it is kept for later runs")
        try:
            found = self._submit(Job("measuring", "measure", (question,))).result(self._patience)
        except TimeoutError as error:
            raise RuntimeError(
                f"a worker measured for {self._patience:g} s and did not end; leave nothing to `auto`, or give a "
                "preset with a longer `timeout`"
            ) from error
        speed_cache.remember(question.facts(found["device"]), found)
        return found

    @property
    def workers(self) -> int:
        return max(1, sum(worker.device is not None for worker in self._workers))

    @property
    def slots(self) -> int:
        return DEEP * self.workers

    def submit(self, task: Task) -> Future[list[Counts]]:
        return self._submit(Job(f"a batch of {named(task.cell)}", "run", (task,)))

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        return self._submit(Job(f"a draw of {named(cell)}", "show", (cell, images, draw)))

    def close(self) -> None:
        self.abandon()
        self._events.put(None)
        self._listener.join()
        self._cluster.close()

    def abandon(self) -> None:
        with self._lock:
            self._broken = self._broken or WorkerDied("the run was ended")
            for worker in self._workers:
                self._ray.kill(worker.actor)
            self._workers.clear()

    def _submit(self, job: Job) -> Future[Any]:
        with self._lock:
            if self._broken is not None:
                raise self._broken
            self._waiting.append(job)
            self._deal()
        return job.future

    def _deal(self) -> None:
        """Give what waits to the workers that have least to do."""
        while self._waiting:
            able = [worker for worker in self._workers if worker.device and len(worker.jobs) < DEEP]
            if not able:
                break
            worker, job = min(able, key=lambda worker: len(worker.jobs)), self._waiting.popleft()
            worker.jobs.append(job)
            self._call(worker, job.method, job.arguments, job)

    def _hire(self, workers: int) -> None:
        """Ask Ray for workers until there are so many; ready is who has found room and made its engine."""
        while len(self._workers) < workers:
            worker = Worker(self._actor.remote())
            self._workers.append(worker)
            self._call(worker, "prepare", self._setup, None)

    def _call(self, worker: Worker, method: str, arguments: tuple[Any, ...], job: Job | None) -> None:
        reference = getattr(worker.actor, method).remote(*arguments)
        reference.future().add_done_callback(lambda done: self._events.put((worker, job, done)))

    def _listen(self) -> None:
        """Take in what calls returned, one after another, in a thread of its own."""
        while (event := self._events.get()) is not None:
            worker, job, done = event
            with self._lock:
                if worker in self._workers:  # or it was buried already, with all that it had
                    self._take(worker, job, done)
                    self._deal()

    def _take(self, worker: Worker, job: Job | None, done: Future) -> None:
        error = done.exception()
        told = isinstance(error, self._ray.exceptions.RayTaskError)  # the worker lives, and says what it met with
        if error is not None and not told:
            self._bury(worker, error)
        elif job is not None:
            worker.jobs.remove(job)
            if error is None:
                job.future.set_result(done.result())
            else:
                job.future.set_exception(error.cause)  # type: ignore[attr-defined]
        elif error is not None:
            self._leave_out(worker, error.cause)  # type: ignore[attr-defined]
        else:
            worker.device, self._stillborn = done.result(), 0
            self._started.set()

    def _bury(self, worker: Worker, error: BaseException) -> None:
        """Replace a worker that died, and deal out anew what it had; the first of it was running."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)  # it may live on where only the connection was lost
        reason = " ".join(str(error).split())[:300]
        if worker.jobs:
            worker.jobs[0].deaths += 1
        if worker.device is None:
            self._stillborn += 1
        given_up = [job for job in worker.jobs if job.deaths >= DEATHS]
        for job in given_up:
            job.future.set_exception(
                WorkerDied(
                    f"{job.what} killed {job.deaths} workers one after another, the last with: {reason}. "
                    "What was counted is stored, and the same command continues. Where memory ran out, try a smaller "
                    "--batch; `--executor local --workers 1` shows a crash where it happens"
                )
            )
        self._waiting.extendleft(reversed([job for job in worker.jobs if job not in given_up]))
        if not given_up:
            self._notify("a worker died" + ("; what it had is counted by another one" if worker.jobs else ""))
        if self._stillborn < DEATHS:
            self._hire(len(self._workers) + 1)
        elif not self._workers:
            self._break(WorkerDied(f"{self._stillborn} workers died while they started, the last with: {reason}"))

    def _leave_out(self, worker: Worker, error: Exception) -> None:
        """Do without a worker whose machine is not fit, unless no other is left; where it was alone, try all others."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        self._room -= 1
        if not self._room:
            self._break(error)
            return
        self._notify(f"a worker is left out: {error}")
        if not self._workers:
            self._hire(self._room)

    def _break(self, error: Exception) -> None:
        """Nothing more can be counted: say why to all who wait."""
        self._broken = error
        for job in (*self._waiting, *(job for worker in self._workers for job in worker.jobs)):
            job.future.set_exception(error)
        self._waiting.clear()
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()
        self._started.set()
