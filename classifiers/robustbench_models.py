"""Adversarially trained classifiers of RobustBench."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classifiers.base import ClassifierError
from classifiers.hub import brief, require
from classifiers.image_models import ImageClassifier
from classifiers.preprocessing import Preprocessing

_LINKS = "github.com/RobustBench/robustbench links every model, and states no checksums"
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@dataclass(frozen=True)
class RobustBench(ImageClassifier):
    """A model of RobustBench's zoo. These models take images in [0,1] and normalise them.

    Parameters:
        path: name in RobustBench, such as `Standard` or `Rebuffi2021Fixing_R18_cutmix_ddpm`.
        dataset, threat_model: names in RobustBench.
        folder: folder of the weight files, `FOLDER/cifar10/L2/NAME.pt`.
        size: height and width after resizing; 0: no resizing (the ImageNet models need 224).
    """

    name = "robustbench"
    source = "Croce et al. 2021, RobustBench"

    path: str
    dataset: Literal["cifar10", "cifar100", "imagenet"] = "cifar10"
    threat_model: Literal["L2", "Linf", "corruptions"] = "L2"
    folder: str = "models"
    size: int = 0

    def weights(self) -> Path:
        return Path(self.folder) / self.dataset / self.threat_model / f"{self.path}.pt"

    def files(self, download: bool = True) -> tuple[Path, ...]:
        require("robustbench")
        if not self.weights().is_file():
            if not download:
                raise ClassifierError(
                    f"{self.weights()} is missing; RobustBench would download it. By hand: put it there; {_LINKS}", True
                )
            self.network()
        return (self.weights(),)

    def configured(self) -> Preprocessing:
        return Preprocessing(resize=(self.size, self.size) if self.size else None)

    def network(self):
        from robustbench.utils import load_model

        before = os.environ.get(_FORCE)
        os.environ[_FORCE] = "1"  # RobustBench asks torch to unpickle anything; this admits tensors only
        try:
            return load_model(self.path, self.folder, self.dataset, self.threat_model).float()
        except Exception as error:  # unknown names, no connection, damaged files: errors of several libraries
            raise ClassifierError(
                f"RobustBench has no model {self.path!r} for {self.dataset}, {self.threat_model}, or its file cannot "
                f"be read or downloaded ({brief(error)}). By hand: put it at {self.weights()}; {_LINKS}"
            ) from error
        finally:
            os.environ.pop(_FORCE) if before is None else os.environ.update({_FORCE: before})
