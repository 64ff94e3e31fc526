"""The architecture of the bundled networks: a small diffusers UNet over space-to-depth patches."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from diffusers import UNet2DModel
from torch import Tensor, nn


class PixelUNet(nn.Module):
    """`pixel_unshuffle -> UNet2DModel -> pixel_shuffle`: full resolution in and out, convolutions on patches.

    Parameters:
        channels: of the images.
        image_size: height and width, a multiple of `unshuffle * 2**(len(widths) - 1)`.
        widths: channels of the UNet's levels.
        layers: residual blocks per level.
        unshuffle: side of the patch that becomes channels.
        groups: of the group normalisation.

    Attributes:
        images: channels and side of the images.
    """

    def __init__(
        self, channels: int, image_size: int, widths: list[int], layers: int = 1, unshuffle: int = 2, groups: int = 8
    ):
        super().__init__()
        if image_size % (unshuffle * 2 ** (len(widths) - 1)):
            raise ValueError(f"image_size {image_size} does not divide into {len(widths)} levels of patches")
        self.unshuffle, self.images = unshuffle, (channels, image_size)
        self.unet: Any = UNet2DModel(
            sample_size=image_size // unshuffle,
            in_channels=channels * unshuffle**2,
            out_channels=channels * unshuffle**2,
            layers_per_block=layers,
            block_out_channels=tuple(widths),
            norm_num_groups=groups,
            down_block_types=("DownBlock2D",) * len(widths),
            up_block_types=("UpBlock2D",) * len(widths),
            add_attention=False,
        )

    def forward(self, v: Tensor, time: Tensor) -> Tensor:
        """`v [B,C,H,W]` of unit scale and the time embedding's input `[B]` -> `[B,C,H,W]`."""
        patches = F.pixel_unshuffle(v, self.unshuffle)
        return F.pixel_shuffle(self.unet(patches, time).sample, self.unshuffle)
