"""How tasks are dealt out to the workers of a Ray cluster, on a cluster that is made up."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from summaries import CELL

from bench.certify.fixed import FixedN
from bench.engine.checks import PluginFault
from bench.executors.ray_cluster import MAX_DEATHS, RayCluster, WorkerDied
from bench.executors.ray_connection import Cluster
from bench.executors.ray_worker import WorkerMismatch
from bench.records import Block, Cell, Cost, Counts, Task
from bench.store.store import Store
from bench.sweep.scheduler import Observer, sweep

FREE = Cost(0, 0, 0, 0, 0, 0, "none")
CLASSIFIER = {**CELL, "classifier_parameters": {"path": "mnist5k/classifier"}}
CELLS = [Cell(**CLASSIFIER, purifier=f"p{k}", parameters={}, sigma=0.5) for k in range(3)]


class Died(Exception):
    """Ray's exception for a dead actor."""


class TaskError(Exception):
    """An exception of an actor's method, wrapped as Ray does."""

    def __init__(self, cause: Exception):
        super().__init__("a long text from another machine")
        self.cause = cause


class FakeRay:
    """As much of Ray as the executor uses. Calls wait until `step` does one of them, by an actor at random.

    Parameters:
        dies: whether an actor dies of a call: (method, arguments, random numbers) -> bool.
    """

    exceptions = SimpleNamespace(RayTaskError=TaskError)

    def __init__(self, seed: int, dies=lambda method, arguments, rng: False):
        self.rng, self.dies = random.Random(seed), dies
        self.calls: dict[int, deque[tuple[str, tuple, Future]]] = {}  # actor -> what it has to do, in order
        self.born = self.dead = 0
        self.resources: dict[str, float] = {}
        self.lock = threading.RLock()

    def is_initialized(self) -> bool:
        return True

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 3.0}

    def available_resources(self) -> dict[str, float]:
        return {"CPU": 0.0, "memory": 1e9}

    def put(self, value: Any) -> Any:
        return value

    get = put

    def remote(self, **options: Any):
        self.resources = options
        return lambda cls: SimpleNamespace(remote=self.make)

    def make(self) -> Any:
        with self.lock:
            self.born += 1
            name, self.calls[self.born] = self.born, deque()

        class Actor:
            number = name

            def __getattr__(actor, method: str):
                return SimpleNamespace(remote=lambda *arguments: self.call(name, method, arguments))

        return Actor()

    def call(self, actor: int, method: str, arguments: tuple) -> Any:
        future: Future = Future()
        with self.lock:
            if actor in self.calls:
                self.calls[actor].append((method, arguments, future))
            else:
                future.set_exception(Died("it is dead"))
        return SimpleNamespace(future=lambda: future)

    def kill(self, actor: Any) -> None:
        with self.lock:
            for _, _, future in self.calls.pop(actor.number, ()):
                future.set_exception(Died("killed"))

    def step(self) -> None:
        """One actor does the first thing that it has to do, or dies of it."""
        with self.lock:
            busy = [actor for actor, calls in self.calls.items() if calls]
            if not busy:
                return
            actor = self.rng.choice(busy)
            method, arguments, future = self.calls[actor][0]
            if self.dies(method, arguments, self.rng):
                self.dead += 1
                for _, _, waiting in self.calls.pop(actor):
                    waiting.set_exception(Died("the actor\n died"))
                return
            self.calls[actor].popleft()
            try:
                future.set_result(self.answer(method, arguments))
            except Exception as error:
                future.set_exception(TaskError(error))

    def answer(self, method: str, arguments: tuple) -> Any:
        if method == "prepare":
            return "a device"
        return [Counts(block, votes_of(block), FREE) for block in arguments[0].blocks]


def votes_of(block: Block) -> tuple[int, int]:
    hits = (block.image * 7 + block.first) % (block.draws + 1)
    return hits, block.draws - hits


@contextmanager
def made_up(
    ray: FakeRay, workers: int = 3, patience: float = 60, notify=lambda message: None, start: bool = True
) -> Iterator[RayCluster]:
    """An executor on a `FakeRay`, which works in a thread of its own until the end."""
    ended = threading.Event()

    def work() -> None:
        while not ended.is_set():
            ray.step()
            time.sleep(0)

    thread = threading.Thread(target=work, daemon=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", ray)
        thread.start()
        try:
            images = {0: np.zeros((1, 2, 2), np.float32)}
            executor = RayCluster(Cluster(workers=workers), images, {}, {}, CELLS[:1], patience, notify)
            try:
                if start:
                    executor.start()
                yield executor
            finally:
                executor.close()
        finally:
            ended.set()
            thread.join()


def tasks(cell: Cell = CELLS[0], images: int = 20) -> list[Task]:
    return [Task(cell, (Block(cell.key, image, "estimate", 0, 10),)) for image in range(images)]


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), risk=st.floats(0, 0.3), workers=st.integers(1, 3))
def test_every_task_gets_its_own_counts_whichever_workers_die(seed, risk, workers):
    ray = FakeRay(seed, lambda method, arguments, rng: method == "run" and rng.random() < risk)
    said: list[str] = []
    heard = 0
    with made_up(ray, workers, notify=said.append) as executor:
        assert ray.resources == {"max_restarts": 0, "num_cpus": 1}
        futures = {executor.submit(task): task for task in tasks()}
        for future, task in futures.items():
            error = future.exception(timeout=60)
            if error is None:
                assert future.result() == [Counts(b, votes_of(b), FREE) for b in task.blocks]
            else:
                heard += 1
                assert f"p0 at sigma = 0.5 killed {MAX_DEATHS} workers one after another" in str(error)
    assert MAX_DEATHS * heard <= ray.dead
    assert len(said) + heard == ray.dead and ray.born == ray.dead + workers


def test_a_batch_that_kills_every_worker_is_given_up_and_the_others_are_counted():
    ray = FakeRay(0, lambda method, arguments, rng: method == "run" and arguments[0].blocks[0].image == 5)
    with made_up(ray) as executor:
        futures = [executor.submit(task) for task in tasks()]
        with pytest.raises(WorkerDied, match=r"killed 3 workers .* the actor died\. Counts so far .*--batch"):
            futures[5].result(timeout=60)
        assert all(future.result(timeout=60) for k, future in enumerate(futures) if k != 5)
    assert ray.dead == MAX_DEATHS  # batches queued behind it on the same worker count no death


def test_a_plugins_error_arrives_without_the_text_of_ray():
    ray, task = FakeRay(0), tasks()[0]

    def answer(method: str, arguments: tuple) -> Any:
        if method == "run":
            raise PluginFault("out of ideas")
        return "a device"

    ray.answer = answer  # type: ignore[method-assign]
    with made_up(ray) as executor, pytest.raises(PluginFault, match=r"^out of ideas$"):
        executor.submit(task).result(timeout=60)
    assert ray.dead == 0


def test_workers_that_die_while_they_start_end_the_run_with_their_reason():
    ray = FakeRay(0, lambda method, arguments, rng: method == "prepare")
    with (
        pytest.raises(WorkerDied, match=r"5 workers died while they started, the last with: the actor died"),
        made_up(ray),
    ):
        pass


@pytest.mark.parametrize("mismatches", [1, 2, 3])
def test_a_machine_with_other_versions_is_left_out_by_name_and_ends_the_run_if_it_is_the_only_one(mismatches):
    ray, left, answer = FakeRay(0), list(range(mismatches)), FakeRay.answer

    def answers(method: str, arguments: tuple) -> Any:
        if method == "prepare" and left:
            left.pop()
            raise WorkerMismatch("the machine far has torch 1")
        return answer(ray, method, arguments)

    ray.answer = answers  # type: ignore[method-assign]
    said: list[str] = []
    if mismatches == 3:
        with pytest.raises(WorkerMismatch, match=r"^the machine far has torch 1$"), made_up(ray, notify=said.append):
            pass
        return
    with made_up(ray, notify=said.append) as executor:
        for task in tasks():
            assert executor.submit(task).result(timeout=60)
        while len(said) < mismatches:
            time.sleep(0.01)
        assert executor.workers == 3 - mismatches
    assert said == ["a worker is left out: the machine far has torch 1"] * mismatches


def test_a_full_cluster_is_reported_within_the_time_limit():
    ray = FakeRay(0)
    ray.step = lambda: None  # type: ignore[method-assign]
    with (
        pytest.raises(RuntimeError, match=r"within 0\.1 s: the Ray cluster has \{'CPU': 0\.0\} free.*`timeout`"),
        made_up(ray, patience=0.1),
    ):
        pass


def test_a_sweep_on_workers_that_die_stores_every_block_once(tmp_path):
    deaths: dict[str, int] = {}

    def dies(method, arguments, rng):
        """One call in ten, but never so often for one batch that the run gives up."""
        batch = repr(arguments)
        if method != "run" or rng.random() >= 0.1 or deaths.get(batch, 0) == MAX_DEATHS - 1:
            return False
        deaths[batch] = deaths.get(batch, 0) + 1
        return True

    ray = FakeRay(1, dies)
    rule = FixedN(0.5, 10, 200, 0.001, block=20)
    with made_up(ray) as executor, Store(tmp_path) as store:
        store.begin(CELLS, {})
        outcome = sweep(CELLS, lambda cell: rule, dict.fromkeys(range(12), 0), store, executor, 50, Observer())
        tallies = [dict(store.tallies(cell.key)) for cell in CELLS]
    assert not outcome.errors and ray.dead > 5
    assert outcome.draws == len(CELLS) * 12 * 210
    for cell, found in zip(CELLS, tallies, strict=True):
        for image, tally in found.items():
            assert tally.estimate == {k: votes_of(Block(cell.key, image, "estimate", k, 20)) for k in range(0, 200, 20)}
