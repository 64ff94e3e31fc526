"""What a training is asked for, and where its files lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classifiers.nets import files as classifier_files
from purifiers.nets.hub import cards

CLASSIFIERS = ("classifier", "features")
NEEDS = {  # stage -> the stages whose weights it reads
    **dict.fromkeys(CLASSIFIERS, ()),
    "ddpm": ("classifier",),
    "edm": ("classifier",),
    "cm": ("classifier", "features", "edm"),
    "cm-ft": ("classifier", "features", "cm"),
    "edm-ft": ("classifier", "features", "edm"),
}
WORK = Path("results/training")


@dataclass(frozen=True)
class Job:
    """What a training run is asked for.

    Attributes:
        out: folder of the weights (None: the bundled ones, `purifiers/weights` and `classifiers/weights`).
        data: folder of local data files, or None.
        loss: distance of fine-tuning, or None for the recipe's.
        scale: factor on every recipe's length: a short trial, or a continuation.
        seed: replaces the recipes' seeds where it is given.
        minutes: a stage that is not done after so long stops there, and is saved as it is.
        fresh: begin again where a checkpoint is found.
        compiled: run the networks through `torch.compile`.
        onward: a stage without a checkpoint begins with the weights that its file holds.
    """

    dataset: str
    out: str | None = None
    data: str | None = None
    loss: str | None = None
    scale: float = 1.0
    seed: int | None = None
    device: str = "cpu"
    autocast: bool = False
    minutes: float | None = None
    fresh: bool = False
    compiled: bool = False
    onward: bool = False

    def network_path(self, stage: str) -> Path:
        root = Path(self.out) / "purifiers" if self.out else cards.BUNDLED
        return root / self.dataset / f"{stage}.safetensors"

    def classifier_path(self, name: str) -> Path:
        root = Path(self.out) / "classifiers" if self.out else classifier_files.BUNDLED
        return root / self.dataset / f"{name}.safetensors"

    def work(self) -> Path:
        """Folder of the checkpoints and curves."""
        return (Path(self.out) / "training" if self.out else WORK) / self.dataset
