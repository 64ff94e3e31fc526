"""Adapter for models of transformers, which return more than logits."""

from __future__ import annotations

from torch import Tensor, nn


class LogitsOf(nn.Module):
    """A model of transformers as a function `[B,C,H,W]` -> logits `[B,K]`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits
