"""Run tasks on a Ray cluster: one actor with an engine for each GPU, or for each CPU.

The driver assigns tasks and alone writes the store. A worker that dies is replaced and its tasks are assigned anew. A
block counted twice this way has the same votes and is stored once.

Ray's own retries (`max_restarts`, `max_task_retries`) are off, because the driver's do more: only the batch that was
running counts as the cause of a death, queued batches go to other workers, a machine with other code or libraries is
left out, and every event reaches the user as a message.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.engine.tuning import cache as tuning_cache
from bench.engine.tuning.tune import TuningRequest, measurements
from bench.errors import PurifyBenchError, RunError
from bench.executors.assigning import Assigning, Worker
from bench.executors.base import MAX_DEATHS, Job
from bench.executors.files import Bundle, classifier_key
from bench.executors.ray_connection import Cluster
from bench.executors.ray_worker import RemoteEngine, libraries
from bench.provenance import code_digest
from bench.records import Cell


class WorkerDied(PurifyBenchError, RuntimeError):
    """Workers died repeatedly; counts so far are stored."""


@dataclass(eq=False, kw_only=True)
class _Worker(Worker):
    """An actor; it is ready when its `device` is known, which is the device's name."""

    actor: Any
    ready: bool = False
    device: str = ""


class RayCluster(Assigning):
    """Assigns tasks to the workers of a cluster, after `start`.

    Parameters:
        cluster: the connection; `close` closes it, too.
        images: clean images `[C,H,W]` in [0,1] by index.
        weights, plugin_files: as an `Engine` takes them.
        cells: of the sweep, with every classifier.
        patience: seconds within which the first worker must be ready.
        notify: called with a message when a worker dies or is left out.
    """

    engine: type = RemoteEngine

    def __init__(
        self,
        cluster: Cluster,
        images: Mapping[int, np.ndarray],
        weights: Mapping[str, str],
        plugin_files: Mapping[str, Mapping[str, str]],
        cells: Sequence[Cell],
        patience: float,
        notify: Callable[[str], object] = lambda message: None,
    ):
        super().__init__(notify)
        self._cluster, self._ray, self._patience = cluster, cluster.ray, patience
        self._actor = cluster.ray.remote(max_restarts=0, **cluster.resources)(self.engine)
        device = "cuda:0" if cluster.devices[0] == "cuda" else "cpu"  # Ray hides the GPUs of other workers
        put, get = cluster.ray.put, cluster.ray.get
        stacked = put(np.stack(list(images.values())))
        voters = {classifier_key(c.classifier, c.classifier_parameters): c for c in cells}.values()
        named = [(cell.classifier, cell.classifier_parameters) for cell in voters]
        bundle = Bundle.of(weights, plugin_files, named, put)
        self._setup = device, code_digest(), libraries(), list(images), stacked, bundle, get
        self._capacity = len(cluster.devices)  # workers that fit, less one for each that was left out
        self._failed_starts = 0  # consecutive workers that died before they were ready
        self._started = threading.Event()
        self._handler = ThreadPoolExecutor(1)  # handles ended calls: Ray's own thread must not wait for Ray

    def start(self, workers: int | None = None) -> None:
        """Request workers (default: as many as fit) and wait until one of them is ready.

        Raises:
            RuntimeError: none is ready within `patience`, or every machine is refused (`ray_worker.WorkerMismatch`).
        """
        with self._lock:
            self._add_workers(workers or self._capacity)
        if not self._started.wait(self._patience):
            free = {k: v for k, v in self._ray.available_resources().items() if k in ("CPU", "GPU")}
            raise RunError(
                f"no worker was ready within {self._patience:g} s: the Ray cluster has {free or 'nothing'} free, each "
                f"worker requests {self._cluster.resources}; wait for other jobs, or give a preset a longer `timeout`"
            )
        if self._fatal is not None:
            raise self._fatal

    def measure(self, request: TuningRequest) -> dict[str, Any]:
        """As `bench.engine.tuning.tune`, on one worker while no other worker disturbs its timing.

        The result is kept in the user's cache on the worker and on the driver, so that the same command chooses the
        same cells whichever of several equal machines runs the first worker.

        Raises:
            RuntimeError: as `start`; or the measurement exceeds `patience`, or kills one worker after another.
            LoadError: a network cannot be loaded or compiled on the worker.
        """
        self.start(1)
        device = next((worker.device for worker in self._workers if worker.device), "")
        if (cached := tuning_cache.recall(request.facts(device))) is not None:
            return {"device": device, **cached}
        self._notify("one worker measures how these networks compute fastest on its device; it is kept for later runs")
        try:
            result = self._submit(Job("measuring", "measure", (request,))).result(self._patience)
        except TimeoutError as error:
            remedy = "leave nothing to `auto`, or give a preset a longer `timeout`"
            raise RunError(f"a worker measured for {self._patience:g} s and did not end; {remedy}") from error
        tuning_cache.remember(request.facts(result["device"]), result)
        tuning_cache.remember(request.subject(result["device"]), measurements(result))  # for runs of other options
        return result

    @property
    def workers(self) -> int:  # type: ignore[override]
        return max(1, sum(worker.ready for worker in self._workers))

    @property
    def slots(self) -> int:  # type: ignore[override]
        return self.depth * self.workers

    def close(self) -> None:
        self.abandon()
        self._cluster.close()

    def abandon(self) -> None:
        with self._lock:
            self._fail(self._fatal or WorkerDied("the run was ended"))

    def _send(self, worker: _Worker, job: Job) -> None:
        assert isinstance(job.method, str), "an actor has methods only"
        self._call(worker, job.method, job.arguments, job)

    def _add_workers(self, total: int) -> None:
        """Request actors until there are `total`; Ray starts each of them when it has the resources."""
        while len(self._workers) < total:
            worker = _Worker(actor=self._actor.remote())
            self._workers.append(worker)
            self._call(worker, "prepare", self._setup, None)

    def _call(self, worker: _Worker, method: str, arguments: tuple[Any, ...], job: Job | None) -> None:
        reference = getattr(worker.actor, method).remote(*arguments)
        reference.future().add_done_callback(lambda done: self._handler.submit(self._ended, worker, job, done))

    def _ended(self, worker: _Worker, job: Job | None, done: Future) -> None:
        with self._lock:
            if worker in self._workers:  # else it was removed before, together with its jobs
                self._handle(worker, job, done)
                self._assign()

    def _handle(self, worker: _Worker, job: Job | None, done: Future) -> None:
        """Take the result of a job, or of the preparation of a worker (job None)."""
        error = done.exception()
        raised_by_task = isinstance(error, self._ray.exceptions.RayTaskError)  # else the actor itself died
        if error is not None and not raised_by_task:
            self._replace(worker, error)
        elif job is not None:
            worker.jobs.remove(job)
            if error is None:
                job.future.set_result(done.result())
            else:
                job.future.set_exception(error.cause)  # type: ignore[attr-defined]
        elif error is not None:
            self._leave_out(worker, error.cause)  # type: ignore[attr-defined]
        else:
            worker.device, worker.ready, self._failed_starts = done.result(), True, 0
            self._started.set()

    def _replace(self, worker: _Worker, error: BaseException) -> None:
        """Replace a dead worker; its first job was running and counts the death."""
        self._ray.kill(worker.actor)  # the actor may be alive if only the connection failed
        reason = " ".join(str(error).split())[:300]
        self._failed_starts += not worker.ready
        self._remove(worker, reason)
        if self._failed_starts < MAX_DEATHS:
            self._add_workers(len(self._workers) + 1)
        elif not self._workers:
            self._fail(WorkerDied(f"{self._failed_starts} workers died while they started, the last with: {reason}"))

    def _given_up(self, jobs: list[Job], reason: str) -> Exception:
        return WorkerDied(
            f"{jobs[0].subject} killed {MAX_DEATHS} workers one after another, the last with: {reason}. Counts so far "
            "are stored, and the same command continues. If memory ran out, try a smaller --batch; "
            "`--executor local --workers 1` shows the crash itself"
        )

    def _leave_out(self, worker: _Worker, error: Exception) -> None:
        """Remove a worker that cannot be prepared. After a lone first worker (`measure`), try all others at once."""
        self._workers.remove(worker)
        self._ray.kill(worker.actor)
        self._capacity -= 1
        if not self._capacity:
            self._fail(error)
            return
        self._notify(f"a worker is left out: {error}")
        if not self._workers:
            self._add_workers(self._capacity)

    def _fail(self, error: Exception) -> None:
        """Kill all workers, and end all jobs with an error."""
        super()._fail(error)
        for worker in self._workers:
            self._ray.kill(worker.actor)
        self._workers.clear()
        self._started.set()
