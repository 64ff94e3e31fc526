"""A small convolutional network; its feature maps also serve perceptual distances."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def _stage(inputs: int, outputs: int, convolutions: int, early: bool = False) -> nn.Sequential:
    """Convolutions with batch normalisation; the last one, or the first (`early`), is followed by max pooling."""
    layers: list[nn.Module] = []
    for i in range(convolutions):
        convolution = nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]
        if i == (0 if early else convolutions - 1):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


class CNN(nn.Module):
    """Stages of convolutions, global average pooling, a linear layer. `x [B,C,H,W]` in [0,1] -> logits `[B,K]`.

    Parameters:
        channels: of the images.
        classes: K.
        widths: channels of each stage; every stage halves the resolution.
        depths: convolutions of each stage.
        unshuffle: side of the pixel blocks that become channels before the first stage.
        early: halve after the first convolution of a stage; the others then cost a quarter.

    Attributes:
        images: channels of the images, and None for their side, which may be any.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: list[int],
        depths: list[int],
        unshuffle: int = 1,
        early: bool = False,
    ):
        super().__init__()
        self.unshuffle, self.images = unshuffle, (channels, None)
        inputs = [channels * unshuffle**2, *widths[:-1]]
        self.stages = nn.ModuleList(_stage(i, o, d, early) for i, o, d in zip(inputs, widths, depths, strict=True))
        self.linear = nn.Linear(widths[-1], classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """The feature maps of every stage, highest resolution first."""
        maps = []
        x = F.pixel_unshuffle(2 * x - 1, self.unshuffle)
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x)[-1].mean((2, 3)))

    def fused(self) -> CNN:
        """Fold the normalisations into their convolutions, in place, for inference; the function stays the same."""
        for layers in self.eval().stages:
            assert isinstance(layers, nn.Sequential)
            for i, layer in enumerate(layers):
                if isinstance(layer, nn.BatchNorm2d):
                    convolution = layers[i - 1]
                    assert isinstance(convolution, nn.Conv2d)
                    layers[i - 1], layers[i] = fuse_conv_bn_eval(convolution, layer), nn.Identity()
                elif isinstance(layer, nn.ReLU):
                    layer.inplace = True  # nothing else reads the input of the activation
        return self
