"""A network with its preprocessing: images in [0,1] -> logits."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from classifiers.nets.local_votes import mean_confidence
from classifiers.nets.precision import PRECISIONS
from classifiers.preprocessing import Preprocessing

LEVELS = 255  # steps between 0 and 1 in an image file


def _as_stored(x: Tensor, pixels: str) -> Tensor:
    """Images on the 256 levels of an image file: `round` to the nearest, `truncate` towards 0, `exact`: unchanged."""
    if pixels == "exact":
        return x
    levels = x * LEVELS
    return (levels.round() if pixels == "round" else levels.trunc()) / LEVELS


def _resized(x: Tensor, steps: Preprocessing) -> Tensor:
    """Resize and crop `x [B,C,H,W]`; raises ValueError for an image smaller than the crop."""
    height, width = steps.size(x.shape[2], x.shape[3])
    if (height, width) != tuple(x.shape[2:]):
        corners = None if steps.mode == "nearest" else False
        x = F.interpolate(x, (height, width), mode=steps.mode, align_corners=corners, antialias=steps.antialias)
    if steps.crop:
        top, left = ((side - crop) // 2 for side, crop in zip((height, width), steps.crop, strict=True))
        if top < 0 or left < 0:
            raise ValueError(f"images of {height}x{width} are smaller than the model's crop, {steps.crop}")
        x = x[:, :, top : top + steps.crop[0], left : left + steps.crop[1]]
    return x


class Pipeline(nn.Module):
    """`x [B,C,H,W]` in [0,1] -> logits `[B,K]`; with local noise, the mean confidence over noisy copies.

    Attributes:
        rows: number of rows evaluated by the network so far.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        steps: Preprocessing,
        pixels: str = "exact",
        votes: int = 1,
        noise: float = 0.0,
        precision: str = "fp32",
    ):
        super().__init__()
        self.steps, self.pixels, self.votes, self.noise, self.rows = steps, pixels, votes, noise, 0
        self.precision = PRECISIONS[precision]
        self.network = network.to(self.precision)
        for name, values in (("mean", steps.mean), ("std", steps.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, len(values), 1, 1), persistent=False)

    def ready(self, device: str) -> Pipeline:
        """Move to a device, for inference, with weights in the memory layout that convolutions prefer."""
        self.network.to(memory_format=torch.channels_last)
        return self.to(device).eval().requires_grad_(False)

    def logits(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        x = _resized(x, self.steps)
        x = (x - self.mean) / self.std if self.steps.mean else x
        return self.network(x.to(self.precision, memory_format=torch.channels_last)).float()

    def forward(self, x: Tensor) -> Tensor:
        x = _as_stored(x, self.pixels)
        if not self.noise:
            return self.logits(x)
        return mean_confidence(self.logits, x, self.votes, self.noise)


class LogitsOf(nn.Module):
    """A model of transformers as a function `[B,C,H,W]` -> logits `[B,K]`."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(pixel_values=x).logits
