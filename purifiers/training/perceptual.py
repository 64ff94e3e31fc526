"""Distances for training: L1, L2, LPIPS, and the formula of LPIPS on the features of other networks."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from purifiers.nets.hub.cards import WeightsError
from purifiers.training.imagenet import JUDGE, imagenet_distance
from purifiers.training.losses import Distance, l1, l2

_Features = Callable[[Tensor], list[Tensor]]  # images [B,C,H,W] in [0,1] -> feature maps [B,C',H',W'] each

TRUNKS = {"vgg": "vgg16-397923af.pth", "alex": "alexnet-owt-7be5be79.pth"}  # names of torchvision's files


class TrunkUnavailable(WeightsError):
    """The trunk network of LPIPS is not in torchvision's cache and cannot be downloaded."""


def feature_distance(features: _Features) -> Distance:
    """LPIPS without learned weights: squared differences of channel-normalised feature maps, averaged over space.

    Zhang et al. 2018, eq. 1 with `w_l = 1`, on the maps of `features` instead of VGG's.
    """

    def distance(a: Tensor, b: Tensor) -> Tensor:
        pairs = zip(features((a + 1) / 2), features((b + 1) / 2), strict=True)
        layers = [(F.normalize(fa, dim=1) - F.normalize(fb, dim=1)).square().sum(1) for fa, fb in pairs]
        return torch.stack([layer.mean((1, 2)) for layer in layers]).sum(0)

    return distance


def lpips_distance(device: str = "cpu", net: str = "vgg") -> Distance:
    """LPIPS on images resized to 224, as in Li et al. 2024 (with VGG).

    Parameters:
        net: a key of `TRUNKS`.

    Raises:
        TrunkUnavailable: torchvision could not fetch the trunk.
    """
    import lpips

    try:
        metric = lpips.LPIPS(net=net, verbose=False).to(device).requires_grad_(False)
    except OSError as error:  # includes URLError
        raise TrunkUnavailable(
            f"torchvision could not fetch LPIPS' trunk ({error}); put {TRUNKS[net]} into "
            f"{torch.hub.get_dir()}/checkpoints, or choose another distance (`--loss features`)"
        ) from error

    def distance(a: Tensor, b: Tensor) -> Tensor:
        a, b = (F.interpolate(u.expand(-1, 3, -1, -1), 224, mode="bilinear") for u in (a, b))
        return metric(a, b).flatten()

    return distance


def choose_distance(name: str, features: _Features, features_of: str, device: str = "cpu") -> tuple[str, Distance]:
    """A distance by name, and the name to record in the card.

    `perceptual` is LPIPS if its trunk is available, otherwise the formula of LPIPS on `features`, the feature maps of
    the network named `features_of`. The other names are `lpips`, `features`, `imagenet` (a network that has seen none
    of the project's data), `l1` and `l2`.

    Raises:
        TrunkUnavailable: the name is `lpips` and its trunk is not available.
        JudgeUnavailable: the name is `imagenet` and its network is not installed.
        ValueError: unknown name.
    """
    if name in ("l1", "l2"):
        return name.upper(), l1 if name == "l1" else l2
    if name == "imagenet":
        return JUDGE, imagenet_distance(device)
    if name not in ("perceptual", "lpips", "features"):
        raise ValueError(f"unknown distance {name!r}; known: perceptual, lpips, features, imagenet, l1, l2")
    if name != "features":
        try:
            return "LPIPS (VGG)", lpips_distance(device)
        except TrunkUnavailable:
            if name == "lpips":
                raise
    return f"LPIPS' arithmetic on the features of {features_of}", feature_distance(features)
