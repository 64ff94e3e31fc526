"""FFDNet (Zhang, Zuo and Zhang 2018): a CNN on patches of 2x2 pixels; a constant channel tells it the noise level."""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FFDNet(nn.Module):
    """`(x, sigma) -> x0`, in the units of images in [0,1].

    Parameters:
        channels: of the images.
        width: channels of the hidden layers.
        layers: number of convolutions.
    """

    classes = None

    def __init__(self, channels: int = 3, width: int = 96, layers: int = 12):
        super().__init__()
        self.images = channels, None  # of any size
        widths = [4 * channels + 1, *[width] * (layers - 1), 4 * channels]
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        between = [module for convolution in convolutions for module in (convolution, nn.ReLU())]
        self.model = nn.Sequential(*between[:-1])

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """`x [B,C,H,W]` and `sigma [B]` -> `[B,C,H,W]`."""
        height, width = x.shape[-2:]
        patches = F.pixel_unshuffle(F.pad(x, (0, width % 2, 0, height % 2), mode="replicate"), 2)
        level = sigma.to(x.dtype).view(-1, 1, 1, 1).expand(-1, 1, *patches.shape[-2:])
        restored = F.pixel_shuffle(self.model(torch.cat([patches, level], dim=1)), 2)
        return restored[..., :height, :width]
