"""Devices of this machine: names, cores, memory, precision, energy."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.errors import InputError

_STATUS = Path("/proc/self/status")  # Linux only


def peak_bytes(device: torch.device) -> int:
    """Highest memory so far: allocated on a GPU, resident in this process on a CPU (0 on Windows: not known)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.is_file():  # getrusage includes the peak of the parent process
        return int(_STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    if os.name == "nt":
        return 0
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def device_name(device: torch.device) -> str:
    """The name of a device, such as `NVIDIA H200`, `AMD EPYC (1 thread)` or `AMD EPYC without bf16 (1 thread)`.

    Processors of one model name may differ in their instructions, and then round differently.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lacks = "" if has_instructions("bf16") else " without bf16"
    threads = torch.get_num_threads()
    return f"{processor_name()}{lacks} ({threads} thread{'s' if threads > 1 else ''})"


def processor_name() -> str:
    """The processor's model name, or its architecture if the system does not report one."""
    return _processor_line("model name") or platform.processor() or platform.machine()


def _processor_line(name: str) -> str:
    """The value of a line of /proc/cpuinfo; empty if the system does not report it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(name))
    except (OSError, StopIteration):
        return ""


def prepare_device(name: str) -> torch.device:
    """Set up this process for one device: one thread on a CPU, and full float32 arithmetic."""
    device = torch.device(name)
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    if device.type == "cpu":
        torch.set_num_threads(1)
        torch.set_flush_denormal(True)
    return device


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done its work; a CPU's is done when a call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; a GPU's queue is not waited for."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def to_host(tensor: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the host; the returned function waits for the copy and returns it."""
    if tensor.device.type != "cuda":
        return lambda: tensor
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record(torch.cuda.current_stream(tensor.device))

    def read() -> Tensor:
        arrived.synchronize()
        return copy

    return read


def choose_devices(device: str, workers: int) -> list[str]:
    """The devices of the worker processes, `workers` of them (0: one per core, or per GPU).

    Raises:
        ValueError: CUDA was requested, and there is no GPU.
    """
    gpus = torch.cuda.device_count()
    if device.startswith("cuda") and not gpus:
        raise InputError("device cuda was requested, but torch finds no GPU here; use --device cpu")
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda":
        return [f"cuda:{i % gpus}" for i in range(workers or gpus)]
    if device == "cpu":
        return ["cpu"] * (workers or cores())
    return [device] * (workers or 1)


def has_bf16(device: str) -> bool:
    """Whether a device has instructions for bf16, and so computes faster in it than in fp32."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return has_instructions("bf16")


def has_instructions(precision: str) -> bool:
    """Whether this machine's CPU has instructions for `bf16` or `fp16`."""
    return bool({f"avx512_{precision}", f"amx_{precision}"} & set(_processor_line("flags").split()))


def choose_precision(precision: str, device: str) -> str:
    """`auto` becomes bf16 on devices with instructions for it and fp32 on others; other values stay."""
    return ("bf16" if has_bf16(device) else "fp32") if precision == "auto" else precision


def cores() -> int:
    """Cores that this process may use, by its affinity and a container's quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return bound if quota == "max" else max(1, min(bound, int(quota) // int(period)))
    except (OSError, ValueError):
        return bound


def energy_since(devices: Sequence[str]) -> Callable[[], dict[str, Any]]:
    """Read the energy counters of GPUs; the returned function gives `{"energy_j": J}` since then, or `{}` if unknown.

    A GPU's counter covers all of its users: on a shared one the figure is an upper bound. It needs the extra `energy`
    (nvidia-ml-py) and a GPU of Volta or later.
    """
    before = _counters(devices)

    def since() -> dict[str, Any]:
        now = _counters(devices)
        return {} if before is None or now is None else {"energy_j": round((now - before) / 1000, 1)}

    return since


def _counters(devices: Sequence[str]) -> float | None:
    """Millijoules consumed by the GPUs since their driver was loaded; None without a counter."""
    gpus = {device for device in devices if device.startswith("cuda")}
    if not gpus:
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        try:
            uuids = [torch.cuda.get_device_properties(torch.device(gpu)).uuid for gpu in gpus]  # NVML numbers otherwise
            handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in uuids]
            return float(sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, handles)))
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no library, no driver, no counter: NVML has errors of its own for each
        return None
