"""Checks of the outputs of plugins and networks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from bench.engine.loader import Loaded
from bench.errors import PurifyBenchError

SLACK = 0.05  # how far outside [0,1] a bounded purifier may stray by rounding


NO_MEMORY = (  # said by errors that have no class for it, of torch on a CPU and of the libraries of CUDA
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class PluginFault(PurifyBenchError):
    """A plugin raised, or returned what cannot be classified; its cell fails with this message."""


class Checks:
    """What a batch's results must be: looked at where they are made, on a GPU at the end, because looking waits."""

    def __init__(self, device: torch.device):
        self._late = device.type == "cuda"
        self._open: list[tuple[Tensor, Callable[[list[float]], None]]] = []

    def add(self, values: Tensor, refuse: Callable[[list[float]], None]) -> None:
        """Have `refuse` look at some numbers of the device; it raises where they are not what they must be."""
        self._open.append((values, refuse))
        if not self._late:
            self.settle()

    def settle(self) -> None:
        while self._open:
            values, refuse = self._open.pop(0)
            refuse(values.tolist())


def check_networks(who: str, loaded: Loaded, checks: Checks) -> None:
    """Have it checked that every value which the networks gave was finite."""
    for role, network in loaded.networks.items():

        def refuse(total: list[float], role: str = role) -> None:
            if not np.isfinite(total).all():
                raise PluginFault(f"{who}: its network {role!r} gave values that are not finite")

        checks.add(network.total[None], refuse)


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice, by its class or by its message."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in NO_MEMORY)
