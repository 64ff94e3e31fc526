"""ResNets for CIFAR, as published by other projects."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classifiers.base import ClassifierError
from classifiers.hub import by_hand
from classifiers.image_models import ImageClassifier
from classifiers.preprocessing import IMAGENET, Preprocessing

# The weight files do not record the normalisation; these are the ones of the two common sources.
_NORMALISATIONS = {
    "imagenet": IMAGENET,  # akamaster/pytorch_resnet_cifar10
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),  # locuslab/smoothing
}
_KNOWN = {  # name -> source; none of them has a direct address
    "cohen2019/resnet110-noise_0.25": "models/cifar10/resnet110/noise_0.25/checkpoint.pth.tar of the models that "
    "github.com/locuslab/smoothing links",
}


@dataclass(frozen=True)
class ResNetCIFAR(ImageClassifier):
    """A ResNet of any depth for 32x32 images, shortcuts of option A or B.

    Parameters:
        path: a .safetensors file, a torch checkpoint with tensors only (`.pth.tar` of locuslab/smoothing), or a name in
            KNOWN, whose file is downloaded by hand.
        normalisation: `imagenet` (akamaster/pytorch_resnet_cifar10) or `cifar10` (locuslab/smoothing).
    """

    name = "resnet-cifar"
    source = "He et al. 2016; akamaster/pytorch_resnet_cifar10, locuslab/smoothing"

    path: str
    normalisation: Literal["imagenet", "cifar10"] = "imagenet"

    def weights(self) -> Path:
        return by_hand(self.path) if self.path in _KNOWN else Path(self.path).expanduser()

    def files(self, download: bool = True) -> tuple[Path, ...]:
        path = self.weights()
        if path.is_file():
            return (path,)
        if source := _KNOWN.get(self.path):
            remedy = f"get {source} and put that file there (no checksum of it is published)"
        else:
            remedy = f"give the path of a file of weights, or one of: {', '.join(_KNOWN)}"
        raise ClassifierError(f"{path} is missing; {remedy}", source is not None)

    def configured(self) -> Preprocessing:
        mean, std = _NORMALISATIONS[self.normalisation]
        return Preprocessing(mean, std)

    def network(self):
        from classifiers.nets.resnet import load_resnet

        return load_resnet(self.files()[0])
