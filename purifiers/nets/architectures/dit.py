"""The diffusion transformer (Peebles and Xie 2023) of diffusers, on pixels."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DiTTransformer2DModel
from diffusers.models.embeddings import PatchEmbed
from torch import Tensor, nn


class _Labels(nn.Embedding):
    """`[B]` labels -> `[B,D]`; the last row is "no class", and a negative label the mean of all other rows."""

    def forward(self, labels: Tensor) -> Tensor:
        return torch.where(labels[:, None] < 0, self.weight[:-1].mean(0), super().forward(labels.clamp(min=0)))


class DiT(nn.Module):
    """A `DiTTransformer2DModel` as a function `(v, time, labels) -> Tensor`.

    Parameters:
        config: constructor arguments of `DiTTransformer2DModel`.

    Attributes:
        classes: number of labels; the last one is "no class", which training uses for dropped labels.
        images: channels and side of the images.
    """

    def __init__(self, config: dict[str, Any]):
        super().__init__()
        make: Any = DiTTransformer2DModel
        self.transformer = make(**config)
        options = self.transformer.config
        size, width = options.sample_size, self.transformer.inner_dim
        with torch.device("cpu"):  # a constant that no file holds, so it must not stay on the meta device
            embed = PatchEmbed(size, size, options.patch_size, options.in_channels, width)
        self.transformer.pos_embed.pos_embed = embed.pos_embed
        self.classes, self.images = options.num_embeds_ada_norm + 1, (options.in_channels, size)
        for block in self.transformer.transformer_blocks:
            block.norm1.emb.class_embedder.embedding_table = _Labels(self.classes, width)

    def forward(self, v: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """`v [B,C,H,W]`, the time embedding's input `[B]` and labels `[B]` -> `[B,C',H,W]`."""
        return self.transformer(v, time, class_labels=labels, return_dict=False)[0]
