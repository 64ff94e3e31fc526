"""Jobs and the workers that run them: what all executors whose workers may die have in common."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from bench.executors.base import MAX_DEATHS, Executor, Job


@dataclass(eq=False)
class Worker:
    """A worker with an engine, and the jobs assigned to it in the order in which it runs them."""

    jobs: deque[Job] = field(default_factory=deque)
    ready: bool = True


class Assigning(Executor):
    """Assigns jobs to workers, and the jobs of a worker that died to the others.

    A job is given up after `MAX_DEATHS` workers have died while they ran it. A block that is counted twice has the same
    votes and is stored once.

    Attributes:
        depth: jobs assigned to a worker at once.
        begun: how many of these it may have begun when it dies.
    """

    depth, begun = 2, 1  # one running and one queued

    def __init__(self, notify: Callable[[str], object]):
        self._notify = notify
        self._workers: list[Any] = []
        self._queue: deque[Job] = deque()
        self._fatal: Exception | None = None  # the reason why nothing more can be counted
        self._lock = threading.RLock()

    def _send(self, worker: Any, job: Job) -> None:
        """Give a worker a job; its result comes back later."""
        raise NotImplementedError

    def _given_up(self, jobs: list[Job], reason: str) -> Exception:
        """The error of jobs during which too many workers died, one after another."""
        raise NotImplementedError

    def _submit(self, job: Job) -> Future[Any]:
        with self._lock:
            if self._fatal is not None:
                raise self._fatal
            self._queue.append(job)
            self._assign()
        return job.future

    def _assign(self) -> None:
        """Assign queued jobs to the ready workers with the fewest jobs."""
        while self._queue:
            ready = [worker for worker in self._workers if worker.ready and len(worker.jobs) < self.depth]
            if not ready:
                break
            worker, job = min(ready, key=lambda worker: len(worker.jobs)), self._queue.popleft()
            worker.jobs.append(job)
            try:
                self._send(worker, job)
            except Exception as error:  # it cannot be sent to another process
                worker.jobs.remove(job)
                job.future.set_exception(error)

    def _remove(self, worker: Any, reason: str) -> None:
        """Remove a worker that died, and queue its jobs again; those that it had begun count the death."""
        self._workers.remove(worker)
        had_jobs = bool(worker.jobs)
        suspects = [worker.jobs[k] for k in range(min(self.begun, len(worker.jobs)))]
        for job in suspects:
            job.deaths += 1
        if given_up := [job for job in suspects if job.deaths == MAX_DEATHS]:
            error = self._given_up(suspects, reason)
            for job in given_up:
                worker.jobs.remove(job)
                job.future.set_exception(error)
        self._queue.extendleft(reversed(worker.jobs))
        worker.jobs.clear()
        if not given_up:
            self._notify("a worker died" + ("; another one repeats its batches" if had_jobs else ""))

    def _fail(self, error: Exception) -> None:
        """End all jobs with an error; nothing is taken any more."""
        self._fatal = error
        for job in (*self._queue, *(job for worker in self._workers for job in worker.jobs)):
            job.future.set_exception(error)
        self._queue.clear()
        for worker in self._workers:
            worker.jobs.clear()
