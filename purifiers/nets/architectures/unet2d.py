"""Standard diffusers UNets, for OpenAI's networks, EDM's ADM and diffusers repositories."""

from __future__ import annotations

from typing import Any

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn

from purifiers.nets.architectures.labels import LabelEmbedding


class UNet2D(nn.Module):
    """A `UNet2DModel` as a function `(v, time, labels) -> Tensor`.

    Parameters:
        config: constructor arguments of `UNet2DModel`.
        heads: attention heads of every level; None: by `attention_head_dim`, the channels per head.
        head_channels: channels per head, but at least one head: EDM's rule, for any width.
        channels_per_group: smallest group of the group normalisation, `min(32, C // channels_per_group)` groups: EDM's
            rule for narrow networks; None: `norm_num_groups` groups.

    Attributes:
        classes: number of classes; None for an unconditional network.
        images: channels and side of the images; the side is None where the configuration names none, or two.
    """

    def __init__(
        self,
        config: dict[str, Any],
        heads: int | None = None,
        head_channels: int | None = None,
        channels_per_group: int | None = None,
    ):
        super().__init__()
        if config.get("class_embed_type") is not None:
            raise ValueError(
                f"class_embed_type {config['class_embed_type']!r} is not supported, only class indices are"
            )
        if config.get("time_embedding_type") == "learned":
            raise ValueError("a learned time embedding is not supported: it takes whole timesteps only")
        make: Any = UNet2DModel  # whose attributes diffusers does not declare
        self.unet = make(**config)
        self.classes: int | None = config.get("num_class_embeds")
        side = self.unet.config.sample_size
        self.images = self.unet.config.in_channels, side if isinstance(side, int) else None
        if self.classes is not None:
            self.unet.class_embedding = LabelEmbedding(self.classes, self.unet.class_embedding.embedding_dim)
        for module in self.modules():
            if isinstance(module, Attention) and (heads or head_channels):
                module.heads = heads or max(1, module.inner_dim // (head_channels or 1))
                module.scale = (module.inner_dim // module.heads) ** -0.5
            if isinstance(module, nn.GroupNorm) and channels_per_group:
                module.num_groups = min(32, module.num_channels // channels_per_group)

    def forward(self, v: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """`v [B,C,H,W]`, the time embedding's input `[B]` and labels `[B]` -> `[B,C',H,W]`."""
        return self.unet(v, time, class_labels=labels, return_dict=False)[0]
