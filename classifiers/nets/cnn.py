"""A small convolutional network that is also a source of perceptual features."""

from __future__ import annotations

from torch import Tensor, nn


def stage(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    """Convolutions with batch normalisation at one resolution, then a halving of it."""
    layers: list[nn.Module] = []
    for i in range(convolutions):
        layers += [
            nn.Conv2d(inputs if i == 0 else outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


class CNN(nn.Module):
    """Stages of convolutions, global average pooling, a linear layer. `x [B,C,H,W]` in [0,1] -> logits `[B,K]`.

    Parameters:
        channels: of the images.
        classes: K.
        widths: channels of each stage; every stage halves the resolution.
        depths: convolutions of each stage.
    """

    def __init__(self, channels: int, classes: int, widths: list[int], depths: list[int]):
        super().__init__()
        inputs = [channels, *widths[:-1]]
        self.stages = nn.ModuleList(stage(i, o, d) for i, o, d in zip(inputs, widths, depths, strict=True))
        self.linear = nn.Linear(widths[-1], classes)

    def features(self, x: Tensor) -> list[Tensor]:
        """The output of every stage, finest first."""
        maps = []
        x = 2 * x - 1
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.features(x)[-1].mean((2, 3)))
