"""The batch that tuning chooses, and what does not fit into memory."""

from __future__ import annotations

import pytest
import torch
from planned import planned_of

from bench.engine.compute import CLASSIFIER, ComputeConfig
from bench.engine.loader import LoadError
from bench.engine.tuning.trials import Trials, _is_flat, knee_of
from bench.sweep.settle import (
    _loader_of,
    _request_of,
    settle_options,
)

pytest_plugins = ("tuned",)


def test_the_knee_is_the_smallest_batch_of_nearly_the_highest_rate():
    assert knee_of([(10, 40.0), (25, 80.0), (50, 96.0), (100, 99.0), (250, 100.0)]) == 50
    assert knee_of([(10, 5.0)]) == 10


def test_the_search_for_the_knee_ends_where_larger_batches_gain_nothing():
    assert not _is_flat([(10, 40.0), (25, 41.0)])
    assert not _is_flat([(10, 40.0), (25, 41.0), (50, 60.0)])
    assert _is_flat([(10, 40.0), (25, 41.0), (50, 41.5)])
    assert _is_flat([(10, 40.0), (25, 30.0)])


@pytest.mark.parametrize("fits", [64, 5])
def test_sizes_that_do_not_fit_into_memory_are_not_tried_further(tiny_preset, monkeypatch, fits):
    """The failure is the allocator's own, which has no class on a CPU."""
    trials = _request_of(planned_of(tiny_preset())).trials(_loader_of(planned_of(tiny_preset()), "cpu"))
    monkeypatch.setattr(Trials, "call", lambda self, name, how, x, _: torch.empty(1 if len(x) <= fits else 1 << 50))
    if fits < 32:
        with pytest.raises(LoadError, match="a batch of 32 does not fit into memory"):
            trials.knee({CLASSIFIER: ComputeConfig()})
    else:
        knee, rates = trials.knee({CLASSIFIER: ComputeConfig()})
        assert [size for size, _ in rates] == [32, 64] and knee in (32, 64)


def test_another_failure_at_some_size_is_not_taken_for_the_end_of_memory(tiny_preset, monkeypatch):
    trials = _request_of(planned_of(tiny_preset())).trials(_loader_of(planned_of(tiny_preset()), "cpu"))
    monkeypatch.setattr(Trials, "call", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trials.knee({CLASSIFIER: ComputeConfig()})


def test_networks_that_do_not_fit_into_memory_name_the_rows(tiny_preset, cache, monkeypatch):
    monkeypatch.setattr(Trials, "seconds", lambda *_: torch.empty(1 << 50))
    with pytest.raises(LoadError, match="give fewer --rows"):
        settle_options(planned_of(tiny_preset(precision="auto")), "cpu")
