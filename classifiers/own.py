"""The classifiers that `python -m bench train` makes and that are bundled with the project."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classifiers.base import Classifier

WEIGHTS = Path(__file__).parent / "weights"


@dataclass(frozen=True)
class OwnCNN(Classifier):
    """A small convolutional network trained on clean images.

    Parameters:
        path: the weight file; a name such as `mnist5k/classifier` means the bundled one.
    """

    name = "cnn"
    source = "trained by `python -m bench train`"

    path: str = "mnist5k/classifier"

    def weights(self) -> Path:
        bundled = WEIGHTS / f"{self.path}.safetensors"
        return bundled if bundled.is_file() else Path(self.path)

    def load(self, device: str = "cpu"):
        from classifiers.nets.files import load_cnn

        return load_cnn(self.weights(), device)
