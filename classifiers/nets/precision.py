"""A network that computes in another floating-point type than its input and output."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


class InPrecision(nn.Module):
    """`x [B,...]` float32 -> output float32, computed in `precision`."""

    def __init__(self, network: nn.Module, precision: str):
        super().__init__()
        self.precision = PRECISIONS[precision]
        self.network = network.to(self.precision)
        self.images = getattr(network, "images", None)

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.to(self.precision)).float()
