"""The settings of a training run, and the paths of its files."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from bench.files import read_toml, subfolder
from classifiers.nets import files as classifier_files
from purifiers.nets.hub import cards

CLASSIFIERS = ("classifier", "features", "classifier-ft", "noisy-classifier")
OF_SIGMAS = ("classifier-ft", "noisy-classifier")  # which see images at the noise levels of a benchmark
NEEDS = {  # stage -> stages whose weights it reads
    "classifier": (),
    "features": (),
    "classifier-ft": ("classifier", "edm"),
    "noisy-classifier": ("classifier",),
    "ddpm": ("classifier",),
    "edm": ("classifier",),
    "cm": ("classifier", "features", "edm"),
    "cm-ft": ("classifier", "features", "cm"),
    "edm-ft": ("classifier", "features", "edm"),
    "edm-cal": ("classifier", "features", "edm"),
}
_WORK = Path("results/training")
_LONG = 1000  # factor on the steps of a training that its time limit ends


def read_recipe(package: str, dataset: str) -> dict[str, Any]:
    """The training recipe of a package (`purifiers` or `classifiers`) for a data set.

    Raises:
        FileNotFoundError: there is none; the message lists the existing ones.
    """
    recipes = {Path(file.name).stem: file for file in (files(f"{package}.training") / "recipes").iterdir()}
    if dataset not in recipes:
        known = ", ".join(sorted(recipes))
        raise FileNotFoundError(f"{package} have no training recipe for {dataset!r}; there is one for: {known}")
    return read_toml(Path(str(recipes[dataset])))


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
        batch: images of a step, instead of the recipe's; the same images in all, see `for_job`.
        timed: only the time limit ends a training.
        stop: pauses a training, which the same job continues, once it returns True; None: never.
        size: side in pixels to which own images are cut and scaled; None: as they are.
        unpurified: train `classifier-ft` on images as they are: the control for its longer training.
        sigmas: noise levels of `noisy-classifier` or `classifier-ft`, instead of the recipe's. A network for one alone
            (as in Cohen et al. 2019) has it in its name: `noisy-classifier-0.5`.
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
    batch: int | None = None
    timed: bool = False
    stop: Callable[[], bool] | None = None
    size: int | None = None
    unpurified: bool = False
    sigmas: tuple[float, ...] | None = None

    def path(self, stage: str) -> Path:
        """The weight file of a stage."""
        classifier = stage in CLASSIFIERS
        bundled = classifier_files.BUNDLED if classifier else cards.BUNDLED
        package = "classifiers" if classifier else "purifiers"
        folder = subfolder(Path(self.out), package, self.dataset) if self.out else bundled / self.dataset
        return folder / f"{self.name(stage)}.safetensors"

    def name(self, stage: str) -> str:
        """The name of a stage's files: a classifier for one sigma alone is not that of several."""
        alone = self.sigmas if stage in OF_SIGMAS and len(self.sigmas or ()) == 1 else None
        return f"{stage}-{alone[0]:g}" if alone else stage

    def source(self, stage: str) -> Path:
        """The weight file that later stages read: the job's own, or the bundled one where the job has none."""
        own = self.path(stage)
        return own if own.is_file() else replace(self, out=None).path(stage)

    def work(self) -> Path:
        """Folder of the checkpoints and curves."""
        return subfolder(Path(self.out), "training", self.dataset) if self.out else _WORK / self.dataset


def for_job(recipe: dict[str, Any], job: Job, stage: str) -> dict[str, Any]:
    """The recipe of a data set with the length, seed, distance and batch of a job for one of its stages.

    Another batch keeps what a schedule means in images: steps, warm-up and plateau shrink as the batch grows by a
    factor k, the average forgets as many images (`ema^k`), and the rate grows with `sqrt(k)` (Malladi et al. 2022).
    """
    recipe["seed"] = recipe["seed"] if job.seed is None else job.seed
    settings = recipe[stage]
    k = job.batch / settings["batch"] if job.batch else 1.0
    steps = max(1, round(settings["steps"] * job.scale / k))
    if k != 1:
        settings["batch"], settings["ema"] = job.batch, settings["ema"] ** k
        settings["lr"] *= math.sqrt(k)
        for length in {"warmup", "plateau"} & set(settings):
            settings[length] = max(1, round(settings[length] / k))
    settings["warmup"] = min(settings["warmup"], steps // 10) if job.scale < 1 else settings["warmup"]
    settings["steps"] = steps * _LONG if job.timed else steps
    if job.timed and "paths" in settings:  # of which a trial has fewer, and steps no longer tell that it is one
        settings["paths"] = max(1, round(settings["paths"] * min(1.0, job.scale)))
    if job.loss and stage.endswith("-ft"):
        settings["distance"] = job.loss
    return recipe
