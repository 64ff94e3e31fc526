"""Energy by NVML: the difference of the GPUs' own counters, and nothing where there are none."""

import sys
from types import SimpleNamespace

import torch

from bench.engine.devices import energy_since


def test_energy_is_the_difference_of_the_counters_of_the_gpus_used(monkeypatch):
    counters = {"GPU-a": [1_000, 4_500], "GPU-b": [10_000, 12_000], "GPU-c": [0, 99_999]}
    opened = []
    nvml = SimpleNamespace(
        nvmlInit=lambda: opened.append(1),
        nvmlShutdown=lambda: opened.pop(),
        nvmlDeviceGetHandleByUUID=lambda uuid: counters[uuid],
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: handle.pop(0),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda d: SimpleNamespace(uuid="abc"[d.index]))
    since = energy_since(["cuda:0", "cuda:1", "cuda:0"])  # two workers share the first
    assert since() == {"energy_j": 5.5}
    assert not opened


def test_where_nobody_counts_energy_none_is_told(monkeypatch):
    assert energy_since(["cpu", "cpu"])() == {}
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_since(["cuda:0"])() == {}
