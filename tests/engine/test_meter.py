"""Time by stage as a device tells it: events in a GPU's queue, which nothing waits for before the batch is done."""

from types import SimpleNamespace

import pytest
import torch

from bench.engine.checks import Checks
from bench.engine.meter import Stopwatch

GPU = torch.device("cuda", 0)


@pytest.fixture
def queue(monkeypatch):
    """A GPU whose clock is the number of things that were put into its queue, each of a millisecond."""
    log = []

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            log.append(f"recorded on {stream}")
            self.at = len(log)

        def synchronize(self):
            log.append("waited")

        def elapsed_time(self, other):
            return float(other.at - self.at)

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    return log


def test_a_gpu_is_timed_by_its_own_events_and_nothing_waits_until_they_are_read(queue):
    watch = Stopwatch(GPU)
    with watch.stage("noise"):
        queue.append("kernel")
    with watch.stage("purify"):
        queue += ["kernel"] * 3
    with watch.stage("noise"):
        pass
    assert "waited" not in queue and "recorded on stream of cuda:0" in queue
    assert watch.seconds() == pytest.approx({"noise": 0.003, "purify": 0.004})


def test_a_processor_is_timed_by_its_clock(monkeypatch):
    clock = iter([1.0, 1.5, 2.0, 4.0])
    monkeypatch.setattr("bench.engine.meter.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    watch = Stopwatch(torch.device("cpu"))
    for name in ("noise", "purify"):
        with watch.stage(name):
            pass
    assert watch.seconds() == {"noise": 0.5, "purify": 2.0}


@pytest.mark.parametrize(("device", "late"), [("cuda", True), ("cpu", False)])
def test_values_of_a_gpu_are_looked_at_when_the_batch_is_done_and_those_of_a_processor_at_once(device, late):
    checks, seen = Checks(torch.device(device)), []
    checks.add(torch.tensor([1.0, 2.0]), seen.append)
    assert seen == ([] if late else [[1.0, 2.0]])
    checks.settle()
    checks.settle()
    assert seen == [[1.0, 2.0]]
