"""Energy that GPUs take while a run goes on, from their own counters (NVML), where there are any."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

MILLI = 1e-3


def energy_since(devices: Sequence[str]) -> Callable[[], dict[str, Any]]:
    """Start counting; what is returned gives `{"energy_j": J}` since then, or nothing where it is not known.

    A GPU counts for all of its users: on a shared one the figure is an upper bound. It needs `nvidia-ml-py` (extra
    `energy`) and a GPU of Volta or later.
    """
    before = counters(devices)
    if before is None:
        return dict

    def since() -> dict[str, Any]:
        now = counters(devices)
        return {} if now is None else {"energy_j": round((now - before) * MILLI, 1)}

    return since


def counters(devices: Sequence[str]) -> float | None:
    """Millijoules that the GPUs of some devices took since their driver was loaded; None where nobody tells."""
    named = sorted({device for device in devices if device.startswith("cuda")})
    if not named:
        return None
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        try:
            total = 0
            for device in named:
                uuid = torch.cuda.get_device_properties(torch.device(device)).uuid  # as CUDA numbers the GPUs
                handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
                total += pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
            return float(total)
        finally:
            pynvml.nvmlShutdown()
    except Exception:  # no library, no driver, no counter: NVML has errors of its own for each
        return None
