"""Which workers a Ray cluster gets, and what is refused before one is reached."""

from __future__ import annotations

import sys

import pytest

from bench.executors.ray_connection import Cluster, _plan_workers


@pytest.mark.parametrize(
    ("total", "device", "workers", "expected"),
    [
        ({"CPU": 8.0}, "auto", 0, (["cpu"] * 8, {"num_cpus": 1})),
        ({"CPU": 8.0, "GPU": 2.0}, "auto", 0, (["cuda"] * 2, {"num_cpus": 1, "num_gpus": 1.0})),
        ({"CPU": 8.0, "GPU": 2.0}, "cpu", 3, (["cpu"] * 3, {"num_cpus": 1})),
        ({"CPU": 8.0, "GPU": 2.0}, "cuda", 5, (["cuda"] * 5, {"num_cpus": 1, "num_gpus": 1 / 3})),
        ({"CPU": 1.0, "GPU": 2.0}, "cuda", 2, (["cuda"] * 2, {"num_cpus": 0, "num_gpus": 1.0})),
    ],
)
def test_workers_are_planned_one_per_device_or_as_many_as_requested(total, device, workers, expected):
    assert _plan_workers(total, device, workers) == expected


def test_missing_devices_and_bad_addresses_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="no GPU; use --device cpu"):
        _plan_workers({"CPU": 8.0}, "cuda", 0)
    with pytest.raises(ValueError, match="2 CPUs, too few for 3 workers"):
        _plan_workers({"CPU": 2.0}, "cpu", 3)
    with pytest.raises(ValueError, match="--device cuda instead of cuda:1"):
        Cluster(device="cuda:1")
    with pytest.raises(ValueError, match="--address auto"):
        Cluster(address="ray://far:10001")


def test_without_ray_the_extra_is_named(cli, tiny_preset, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = cli("run", tiny_preset(), "--executor", "ray", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert "pip install 'purifybench[ray]'" in result.stderr and not (tmp_path / "out").exists()


def test_an_address_without_the_executor_is_refused(cli, tiny_preset):
    result = cli("run", tiny_preset(), "--address", "auto")
    assert result.exit_code == 2 and "--executor ray" in result.stderr
