"""Class embeddings with an extra label for the mean of all classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LabelEmbedding(nn.Embedding):
    """`[B]` labels -> `[B,D]`; a negative label is the mean over all classes, which favours none of them."""

    def forward(self, labels: Tensor) -> Tensor:
        embeddings = super().forward(labels.clamp(min=0))
        return torch.where(labels[:, None] < 0, self.weight.mean(0), embeddings)
