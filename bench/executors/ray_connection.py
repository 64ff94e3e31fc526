"""A Ray cluster, one that runs already or one of this machine, and what it has room for."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bench.engine.devices import cores

LOCAL = "local"  # the address that starts a cluster of this machine


class Cluster:
    """A connection to a Ray cluster, and the workers that it has room for.

    Attributes:
        devices: the kind of device of every worker, `cuda` or `cpu`.

    Parameters:
        address: of a running cluster (`auto`: the one that this machine belongs to), or `local` to start one here.
        device: `auto`, `cpu` or `cuda`. Ray says which GPU is whose.
        workers: how many; 0: one per GPU, or per CPU.

    Raises:
        RuntimeError: Ray is not installed, or there is no cluster at the address.
        ValueError: it has no such device, or not as many.
    """

    def __init__(self, address: str = LOCAL, device: str = "auto", workers: int = 0):
        if device.startswith("cuda:"):
            raise ValueError(f"Ray gives each worker a GPU of its own; use --device cuda instead of {device}")
        if address.startswith("ray://"):
            raise ValueError("start the run on a machine of the cluster, with --address auto (docs/cluster.md)")
        try:
            import ray
        except ImportError as error:
            raise RuntimeError("ray is not installed; pip install 'purifybench[ray]'") from error
        self.ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            connect(ray, address, workers)
        try:
            self.devices, self.resources = room(ray.cluster_resources(), device, workers)
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        if self._ours:
            self.ray.shutdown()


def connect(ray: Any, address: str, workers: int) -> None:
    """Connect to a cluster, quietly, and leave signals as they were."""
    arguments: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of ours tells nobody of itself
        arguments |= {"num_cpus": workers or cores(), "include_dashboard": False}
    with handlers_kept():
        try:
            ray.init(**arguments)
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            remedy = (
                "start one with `ray start --head`, or leave out --address for one of this machine alone; one that "
                "asks for a token needs RAY_AUTH_MODE=token and its token here, too (docs/cluster.md)"
            )
            raise RuntimeError(f"there is no Ray cluster at {address} ({error}); {remedy}") from error


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Handlers of signals as they were: Ray puts one of its own for SIGTERM."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if before is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def room(total: Mapping[str, float], device: str, workers: int) -> tuple[list[str], dict[str, float]]:
    """The devices of the workers that a cluster has room for, and what each asks Ray for.

    Parameters:
        total: what the cluster has, `CPU` and `GPU` by number.
        workers: how many are wanted; 0: one per device. GPUs are shared where there are fewer.

    Raises:
        ValueError: it has no such device, or too few CPUs.
    """
    cpus, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise ValueError("device cuda was asked for, but the Ray cluster has no GPU; use --device cpu")
    if device == "cpu" or not gpus:
        if (workers or 1) > cpus:
            raise ValueError(
                f"the Ray cluster has {cpus} CPUs, too few for {workers or 1} workers; give fewer --workers"
            )
        return ["cpu"] * (workers or cpus), {"num_cpus": 1}
    count = workers or gpus
    return ["cuda"] * count, {"num_cpus": 1 if cpus >= count else 0, "num_gpus": 1 / math.ceil(count / gpus)}
