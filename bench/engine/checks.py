"""Checks of the outputs of plugins and networks."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.engine.devices import to_host
from bench.engine.loader import Loaded
from bench.errors import PurifyBenchError

_SLACK = 0.05  # how far outside [0,1] the values of a bounded purifier may lie by rounding
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
    def of(cls, plugin: str, error: BaseException) -> PluginFault:
        """The fault of a plugin that raised: its message names the exception, the file and the line."""
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(frame.filename).name}, line {frame.lineno}"
        text = "".join(traceback.format_exception(error))
        return cls(f"{plugin} raised {type(error).__name__}: {error} ({place})", text)


class Checks:
    """Checks of the values in a batch, made at its end, because reading a value waits for the GPU."""

    def __init__(self) -> None:
        self._open: list[tuple[str, Tensor, bool]] = []
        self._read: Callable[[], Tensor] | None = None

    def add(self, subject: str, values: Tensor, bounded: bool = False) -> None:
        """Register a check that all values are finite, and in [0,1] but for rounding if they are `bounded`.

        Parameters:
            subject: begins the message: the plugin and a verb, such as `classifier 'cnn' returned`.
        """
        self._open.append((subject, torch.stack(values.aminmax()), bounded))  # NaN if one is NaN

    def add_networks(self, plugin: str, loaded: Loaded) -> None:
        """Register a check that every output of the networks was finite."""
        for role, network in loaded.networks.items():
            if network.total is not None:
                self.add(f"{plugin}: its network {role!r} gave", network.total)

    def fetch(self) -> None:
        """Send the registered values to the host, without waiting; nothing can be registered afterwards."""
        if self._open:
            self._read = to_host(torch.stack([extremes.float() for _, extremes, _ in self._open]))

    def settle(self) -> None:
        """Make the registered checks, in their order; raises PluginFault for the first that fails."""
        if self._read is None:
            self.fetch()
        values = self._read().tolist() if self._read else []
        for (subject, _, bounded), (low, high) in zip(self._open, values, strict=True):
            if not (np.isfinite(low) and np.isfinite(high)):
                raise PluginFault(f"{subject} values that are not finite")
            if bounded and not (low >= -_SLACK and high <= 1 + _SLACK):
                raise PluginFault(f"{subject} values from {low:.3g} to {high:.3g}, images must lie in [0,1]")
        self._open.clear()
        self._read = None


def out_of_memory(error: BaseException) -> bool:
    """An error of missing memory, by its class or its message."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(text in str(error) for text in _OUT_OF_MEMORY_TEXTS)
