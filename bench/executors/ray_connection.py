"""Connect to a running Ray cluster, or start one on this machine, and plan its workers."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Mapping
from typing import Any

from bench.engine.devices import cores
from bench.errors import InputError, RunError

_LOCAL = "local"  # this address starts a cluster on this machine


class Cluster:
    """A connection to a Ray cluster, and the workers that fit on it.

    Attributes:
        devices: the device type of every worker, `cuda` or `cpu`.
        resources: the resources of one worker, as options of `ray.remote`.

    Parameters:
        address: of a running cluster (`auto`: the cluster of this machine), or `local` to start one here.
        device: `auto`, `cpu` or `cuda`. Ray assigns GPUs to workers.
        workers: number of workers; 0: one per GPU, or per CPU.

    Raises:
        RunError: Ray is not installed, or there is no cluster at the address.
        InputError: the device or the address is unsuitable, or the cluster has too few devices.
    """

    def __init__(self, address: str = _LOCAL, device: str = "auto", workers: int = 0):
        if device.startswith("cuda:"):
            raise InputError(f"Ray gives each worker a GPU of its own; use --device cuda instead of {device}")
        if address.startswith("ray://"):
            raise InputError("start the run on a machine of the cluster, with --address auto (docs/cluster.md)")
        try:
            import ray
        except ImportError as error:
            raise RunError("ray is not installed; pip install 'purifybench[ray]'") from error
        self.ray: Any = ray
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, address, workers)
        try:
            self.devices, self.resources = _plan_workers(ray.cluster_resources(), device, workers)
        except ValueError:
            self.close()
            raise

    def close(self) -> None:
        if self._ours:
            self.ray.shutdown()


def _connect(ray: Any, address: str, workers: int) -> None:
    """Connect to a cluster without its log output, and keep this process's signal handlers.

    Raises:
        RunError: there is no cluster at the address, or it refuses the connection.
    """
    arguments: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": "error"}
    if address == _LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
        arguments |= {"num_cpus": workers or cores(), "include_dashboard": False}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**arguments)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        remedy = (
            "start one with `ray start --head`, or leave out --address to use this machine alone; a cluster with "
            "token authentication needs RAY_AUTH_MODE=token and its token here, too (docs/cluster.md)"
        )
        raise RunError(f"there is no Ray cluster at {address} ({error}); {remedy}") from error
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # `ray.init` installs its own


def _plan_workers(total: Mapping[str, float], device: str, workers: int) -> tuple[list[str], dict[str, float]]:
    """The device type of each worker, and the resources that each worker requests from Ray.

    Parameters:
        total: the cluster's resources, numbers of `CPU` and `GPU`.
        workers: number of workers; 0: one per device. Workers share GPUs if there are more workers than GPUs.

    Raises:
        InputError: the cluster has no such device, or too few CPUs.
    """
    cpus, gpus = int(total.get("CPU", 0)), int(total.get("GPU", 0))
    if device == "cuda" and not gpus:
        raise InputError("device cuda was requested, but the Ray cluster has no GPU; use --device cpu")
    if device == "cpu" or not gpus:
        if (workers or 1) > cpus:
            raise InputError(
                f"the Ray cluster has {cpus} CPUs, too few for {workers or 1} workers; give fewer --workers"
            )
        return ["cpu"] * (workers or cpus), {"num_cpus": 1}
    count = workers or gpus
    return ["cuda"] * count, {"num_cpus": 1 if cpus >= count else 0, "num_gpus": 1 / math.ceil(count / gpus)}
