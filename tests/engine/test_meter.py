"""Time by stage as a device tells it: events in a GPU's queue, which nothing waits for before the batch is done."""

from types import SimpleNamespace

import pytest
import torch

from bench.engine.checks import Checks, PluginFault
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


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -float("inf")])
def test_the_first_values_that_are_not_finite_are_named_at_the_end_of_a_batch(wrong):
    checks = Checks()
    checks.add("the first returned", torch.tensor([1.0, 2.0]))
    checks.add("the second returned", torch.tensor([0.5, wrong, 1.0]))
    checks.add("the third returned", torch.tensor(wrong))
    with pytest.raises(PluginFault, match=r"^the second returned values that are not finite$"):
        checks.settle()


@pytest.mark.parametrize(("low", "high"), [(-0.06, 1.0), (0.0, 1.06)])
def test_bounded_values_may_leave_the_range_of_images_by_rounding_only(low, high):
    checks = Checks()
    checks.add("it returned", torch.tensor([low, high]))
    checks.add("it returned", torch.tensor([-0.04, 1.04]), bounded=True)
    checks.settle()
    checks.add("it returned", torch.tensor([low, 0.5, high]), bounded=True)
    with pytest.raises(PluginFault, match=f"from {low:.3g} to {high:.3g}, images must lie in"):
        checks.settle()
