"""The ResNets of CIFAR: three stages of 16, 32 and 64 channels (He et al. 2016, section 4.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from bench.files import open_file
from classifiers.base import ClassifierError
from classifiers.hub import brief

_STAGES = ("layer1", "layer2", "layer3")


class _Block(nn.Module):
    """Two convolutions and a shortcut: option A of the paper (no parameters), or B (`projected`, a 1x1 convolution)."""

    def __init__(self, inputs: int, outputs: int, stride: int, projected: bool):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs
        self.shortcut = nn.Sequential()
        if projected and (stride > 1 or self.added):
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def around(self, x: Tensor) -> Tensor:
        """Option A: every second pixel, and zeros for the new channels, half of them on either side."""
        if self.stride > 1 or self.added:
            half = self.added // 2
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, half, self.added - half))
        return x

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + (self.shortcut(x) if len(self.shortcut) else self.around(x)))


class _CIFARResNet(nn.Module):
    """`x [B,3,32,32]`, normalised -> logits `[B,K]`; `6 blocks + 2` layers.

    Parameters:
        blocks: of each stage.
        classes: K.
        projected: shortcuts of option B.
        widths: channels of each stage.
    """

    def __init__(self, blocks: int, classes: int, projected: bool = False, widths: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = (widths[0], *widths[:-1])
        for stage, (name, before, width) in enumerate(zip(_STAGES, inputs, widths, strict=True)):
            layers = [_Block(before, width, 2 if stage else 1, projected)]
            layers += [_Block(width, width, 1, projected) for _ in range(blocks - 1)]
            self.add_module(name, nn.Sequential(*layers))
        self.linear = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        for name in _STAGES:
            x = getattr(self, name)(x)
        return self.linear(x.mean((2, 3)))

    def fused(self) -> _CIFARResNet:
        """Fold the normalisations into their convolutions, in place, for inference; the function stays the same."""
        self.eval()
        for module in (self, *(m for m in self.modules() if isinstance(m, _Block))):
            for convolution, norm in (("conv1", "bn1"), ("conv2", "bn2")):
                if hasattr(module, convolution):
                    folded = fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm))
                    setattr(module, convolution, folded)
                    setattr(module, norm, nn.Identity())
        return self


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a file of `torch.save`; no code in it is executed.

    Raises:
        ClassifierError: the file is missing or damaged, or holds more than tensors and plain containers.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with open_file(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # for a damaged file, errors of zipfile, pickle or struct
        raise ClassifierError(
            f"{path} cannot be read ({brief(error)}); it must be a .safetensors file, or tensors that torch.save wrote"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ClassifierError(f"{path} holds no state of a network: a table of tensors was expected")
    return dict(state)


def _plain_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with our names: without the prefixes of wrappers (`module.`, `1.`), also from pytorch-classification."""
    lead = next((name.removesuffix("conv1.weight") for name in state if name.endswith("conv1.weight")), "")
    return {
        name.removeprefix(lead).replace("fc.", "linear.").replace(".downsample.", ".shortcut."): tensor
        for name, tensor in state.items()
    }


def load_resnet(path: Path) -> _CIFARResNet:
    """The network of a weight file, float32, for inference; the tensors determine its depth and shortcuts.

    Raises:
        ClassifierError: the file cannot be read, or has another architecture; the message names the keys.
    """
    state = _plain_names(read_state(path))
    blocks = len({name.split(".")[1] for name in state if name.startswith("layer1.")})
    firsts = ["conv1.weight", "layer2.0.conv1.weight", "layer3.0.conv1.weight", "linear.weight"]
    missing = [name for name in firsts if name not in state or not state[name].ndim]
    if missing or not blocks:
        raise ClassifierError(
            f"{path} is no CIFAR ResNet: it lacks {', '.join(missing or ['layer1'])}; it has {_shown(state)}"
        )
    widths = tuple(len(state[name]) for name in firsts[:3])
    model = _CIFARResNet(blocks, len(state["linear.weight"]), "layer2.0.shortcut.0.weight" in state, widths)
    try:
        lacks, extra = model.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    except RuntimeError as error:
        raise ClassifierError(f"{path} is no CIFAR ResNet: {error}") from error
    if lacks or extra:
        raise ClassifierError(f"{path} is no CIFAR ResNet: it lacks {_shown(lacks)}; it also has {_shown(extra)}")
    return model.fused()


def _shown(names: Mapping[str, Tensor] | list[str], most: int = 5) -> str:
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most} more" if len(listed) > most else "") or "nothing"
