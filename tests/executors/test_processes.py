"""Worker processes: what they cannot be sent, cannot send back, and devices on which no engine can be built."""

from __future__ import annotations

import os
import sys
import threading
from threading import Lock

import numpy as np
import pytest

from bench.executors import Processes
from bench.executors.processes import _end

IMAGES = {0: np.zeros((1, 4, 4), np.float32)}


@pytest.fixture
def processes():
    made = []

    def make(*devices):
        made.append(Processes(IMAGES, {}, list(devices), {}, (said := []).append))
        return made[-1], said

    yield make
    for executor in made:
        executor.close()


def device_of(engine):
    return str(engine.device)


def unsendable(engine):
    return Lock()


class Strange(Exception):
    """Can be made in the worker only."""

    def __reduce__(self):
        return (_refuse, (os.getpid(),))


def _refuse(pid):
    if pid != os.getpid():
        raise RuntimeError("made elsewhere")
    return Strange("here")


def strange(engine):
    raise Strange


def test_jobs_that_cannot_be_sent_fail_alone(processes):
    executor, said = processes("cpu", "cpu")
    with_lock = [executor.call("with a lock", device_of, Lock()) for _ in range(3)]
    jobs = [executor.call(f"job {k}", device_of) for k in range(9)]
    back, own = executor.call("back", unsendable), executor.call("own", strange)
    leaves = executor.call("leaves", sys_exit)
    assert [job.result(60) for job in jobs] == 9 * ["cpu"]
    for job in (*with_lock, back):
        with pytest.raises(TypeError, match="pickle"):
            job.result(60)
    with pytest.raises(RuntimeError, match="the result of a worker cannot be read: made elsewhere"):
        own.result(60)
    with pytest.raises(RuntimeError, match="a plugin ended the process"):
        leaves.result(60)
    assert executor.call("after", device_of).result(60) == "cpu" and not said


def sys_exit(engine):
    sys.exit(3)


def test_a_device_without_an_engine_is_left_out_and_the_last_one_is_an_error(processes):
    executor, said = processes("cpu", "nonsense")
    jobs = [executor.call(f"job {k}", device_of) for k in range(6)]
    assert [job.result(60) for job in jobs] == 6 * ["cpu"]
    executor.close()  # waits for the worker that is left out
    assert len(said) == 1 and "a worker is left out: " in said[0] and "nonsense" in said[0]
    assert executor.workers == 1

    alone, said = processes("nonsense", "nonsense")
    jobs = [alone.call(f"job {k}", device_of) for k in range(3)]
    for job in jobs:
        with pytest.raises(RuntimeError, match="nonsense"):
            job.result(60)


def test_an_error_abandons_what_runs(processes):
    slow = []

    def interrupted():
        with processes("cpu", "cpu")[0] as executor:
            assert executor.call("first", device_of).result(60) == "cpu"
            slow.extend(executor.call("slow", sleep) for _ in range(6))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(slow) == 6 and all(job.done() for job in slow)


def test_an_executor_that_nobody_closed_starts_no_worker_at_the_end_of_the_interpreter(processes):
    executor, said = processes("cpu")
    assert executor.call("first", device_of).result(60) == "cpu"
    (worker,) = executor._workers
    executor.call("slow", sleep)
    _end(executor._workers)  # as the interpreter does
    worker.process.join(60)
    for thread in threading.enumerate():
        if "_receive" in thread.name:
            thread.join(60)
    assert not executor._workers and not said


def sleep(engine):
    import time

    time.sleep(600)
