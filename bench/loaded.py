"""What is loaded is what was planned, and stays so while a run goes on, whatever becomes of its files."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import nn

from bench.types import Cell


class LoadError(RuntimeError):
    """A plugin or a network of a cell cannot be made ready; the message names it and the remedy."""


def own_memory(loaded: Any) -> Any:
    """A network whose weights lie in memory of its own; others than modules of torch are left as they are.

    Loaders map files of safetensors into memory: who overwrites such a file changes the weights of a running network.
    """
    if isinstance(loaded, nn.Module):
        for tensor in chain(loaded.parameters(), loaded.buffers()):
            if tensor.device.type == "cpu":
                with torch.inference_mode(tensor.is_inference()):  # or nobody else could use what was made here
                    tensor.data = tensor.data.clone()
    return loaded


def refuse_changed(cell: Cell, what: str, name: str, now: str) -> None:
    """Raise LoadError where a file that was just loaded is not the one of the cell's identity.

    Files are hashed after they are read, so a change while they were read is noticed as well.

    Parameters:
        name: of the hash in the cell's identity; now: what it is.
    """
    if now != cell.hashes.get(name, now):
        raise LoadError(
            f"{what} changed since this run was planned. What was counted before is stored; run it again for counts of "
            "what is there now"
        )
