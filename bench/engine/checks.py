"""Checks of the outputs of plugins and networks."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.engine.loader import Loaded
from bench.errors import PurifyBenchError

SLACK = 0.05  # how far outside [0,1] the values of a bounded purifier may lie by rounding
_OUT_OF_MEMORY_TEXTS = (  # errors without a class of their own, of torch on a CPU and of CUDA's libraries
    "can't allocate memory",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)


class PluginFault(PurifyBenchError):
    """A plugin raised, or returned a wrong value; its cell fails with this message.

    Attributes:
        traceback: of the plugin's exception; empty if it raised none.
    """

    def __init__(self, message: str, traceback: str = ""):
        super().__init__(message)
        self.traceback = traceback

    @classmethod
    def of(cls, plugin: str, error: Exception) -> PluginFault:
        """The fault of a plugin that raised: its message names the exception, the file and the line."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        text = "".join(traceback.format_exception(error))
        return cls(f"{plugin} raised {type(error).__name__}: {error} ({place})", text)


class Checks:
    """Deferred checks of a batch: immediate on a CPU; on CUDA after the batch, to avoid synchronising."""

    def __init__(self, device: torch.device):
        self._deferred = device.type == "cuda"
        self._open: list[tuple[Tensor, Callable[[list[float]], None]]] = []

    def add(self, values: Tensor, refuse: Callable[[list[float]], None]) -> None:
        """Register a check: `refuse` is called with the values, and raises if they are wrong."""
        self._open.append((values, refuse))
        if not self._deferred:
            self.settle()

    def settle(self) -> None:
        """Run the checks that are still open."""
        while self._open:
            values, refuse = self._open.pop(0)
            refuse(values.tolist())


def check_networks(plugin: str, loaded: Loaded, checks: Checks) -> None:
    """Check that every output of the networks was finite."""
    for role, network in loaded.networks.items():

        def refuse(total: list[float], role: str = role) -> None:
            if not np.isfinite(total).all():
                raise PluginFault(f"{plugin}: its network {role!r} gave values that are not finite")

        checks.add(network.total[None], refuse)


def out_of_memory(error: Exception) -> bool:
    """An error of missing memory, by its class or its message."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)
