"""The settings of a training run, and the paths of its files."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from classifiers.nets import files as classifier_files
from purifiers.nets.hub import cards

CLASSIFIERS = ("classifier", "features", "classifier-ft")
NEEDS = {  # stage -> stages whose weights it reads
    "classifier": (),
    "features": (),
    "classifier-ft": ("classifier", "edm"),
    "ddpm": ("classifier",),
    "edm": ("classifier",),
    "cm": ("classifier", "features", "edm"),
    "cm-ft": ("classifier", "features", "cm"),
    "edm-ft": ("classifier", "features", "edm"),
    "edm-cal": ("classifier", "features", "edm"),
}
_WORK = Path("results/training")


def read_recipe(package: str, dataset: str) -> dict[str, Any]:
    """The training recipe of a package (`purifiers` or `classifiers`) for a data set.

    Raises:
        FileNotFoundError: there is none; the message lists the existing ones.
    """
    recipes = {Path(file.name).stem: file for file in (files(f"{package}.training") / "recipes").iterdir()}
    if dataset not in recipes:
        known = ", ".join(sorted(recipes))
        raise FileNotFoundError(f"{package} have no training recipe for {dataset!r}; there is one for: {known}")
    return tomllib.loads(recipes[dataset].read_text())


@dataclass(frozen=True)
class Job:
    """The settings of a training run.

    Attributes:
        out: folder of the weights (None: the bundled ones, `purifiers/weights` and `classifiers/weights`).
        data: folder of local data files, or None.
        loss: distance of fine-tuning; None: the recipe's.
        scale: factor on the length of every recipe, for a short trial or a continuation.
        seed: replaces the recipes' seeds; None keeps them.
        minutes: time limit of a stage, which is then saved as it is; None: no limit.
        fresh: ignore existing checkpoints.
        compiled: run the networks through `torch.compile`.
        onward: a stage without a checkpoint starts from the weights in its own file.
        unchecked: keep a consistency model that is not one, and say so in its card; for trials.
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
    unchecked: bool = False

    def path(self, stage: str) -> Path:
        """The weight file of a stage."""
        classifier = stage in CLASSIFIERS
        bundled = classifier_files.BUNDLED if classifier else cards.BUNDLED
        package = "classifiers" if classifier else "purifiers"
        return (Path(self.out) / package if self.out else bundled) / self.dataset / f"{stage}.safetensors"

    def source(self, stage: str) -> Path:
        """The weight file that later stages read: the job's own, or the bundled one where the job has none."""
        own = self.path(stage)
        return own if own.is_file() else replace(self, out=None).path(stage)

    def work(self) -> Path:
        """Folder of the checkpoints and curves."""
        return (Path(self.out) / "training" if self.out else _WORK) / self.dataset
