"""Count network evaluations, time stages with the device synchronised, read peak memory."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor


class CountedNetwork:
    """A denoiser that counts the rows it is called with. It passes on what purifiers may ask for, and no more."""

    def __init__(self, denoiser):
        self._denoiser = denoiser
        self.rows = 0
        self.t_min, self.t_max = denoiser.t_min, denoiser.t_max

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        self.rows += len(u)
        return self._denoiser(u, t)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return self._denoiser.levels(t, steps, t_end)


class Stopwatch:
    """Seconds by stage. Each stage starts and ends with the device idle, so no stage pays for another's work."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.synchronize()
        started = time.perf_counter()
        yield
        self.synchronize()
        self.seconds[name] += time.perf_counter() - started

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peak_bytes(device: torch.device) -> int:
    """Highest memory so far: allocated on a GPU, resident in this process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: torch.device) -> str:
    """The device as a reader knows it, such as `NVIDIA H200` or `AMD EPYC (1 thread)`."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{processor_name()} ({threads} thread{'s' if threads > 1 else ''})"


def processor_name() -> str:
    """The processor's model name, or its architecture where the system does not tell."""
    return processor_line("model name") or platform.processor() or platform.machine()


def processor_flags() -> set[str]:
    """What instructions the processor has, where the system tells."""
    return set(processor_line("flags").split())


def processor_line(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return ""
