"""The bundled classifiers, trained by `python -m bench train`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from classifiers.base import OPTION, Classifier, settled
from classifiers.nets.metadata import identity

_WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class OwnCNN(Classifier):
    """A small convolutional network trained on clean images.

    Parameters:
        path: the weight file, or the name of a bundled one (`mnist5k/classifier`).
        precision: floating-point type of the network; logits are float32. A run resolves `auto` (docs/speed.md).
    """

    name = "cnn"
    source = "trained by `python -m bench train`"

    path: str = "mnist5k/classifier"
    precision: Literal["fp32", "bf16", "auto"] = field(default="fp32", kw_only=True, metadata=OPTION)

    def weights(self) -> Path:
        bundled = _WEIGHTS / f"{self.path}.safetensors"
        return bundled if bundled.is_file() else Path(self.path)

    def identity(self) -> str:
        return identity(self.weights())

    def load(self, device: str = "cpu"):
        from classifiers.nets.files import load_cnn

        if self.precision == "fp32":
            return load_cnn(self.weights(), device)
        from classifiers.nets.precision import InPrecision

        return InPrecision(load_cnn(self.weights(), device), settled(self.precision))
