"""The initial weights of a training that goes on from an earlier one: copies, which it cannot overwrite."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from bench.files import copy_file, make_folder
from bench.training.curves import BEFORE
from bench.training.jobs import Job


def initial_weights(job: Job, weights: Path, name: str) -> Path:
    """Copies of a training's initial weights and of their curve, because the training overwrites its own files."""
    copy = job.work() / f"{name}{BEFORE}.safetensors"
    if job.fresh or not copy.is_file():
        if not weights.is_file():
            raise FileNotFoundError(f"there are no weights in {weights} to start from; leave out --from-weights")
        make_folder(copy.parent)
        for file in (weights.with_suffix(".json"), weights, job.work() / f"{name}.csv"):
            if file.is_file():
                copy_file(file, copy.with_suffix(file.suffix))
    return copy


def copy_bundled(job: Job, stage: str) -> bool:
    """Copy the bundled network of a stage where a continued training reads it; returns False if there is none."""
    bundled = replace(job, out=None)
    weights, copy = bundled.path(stage), job.work() / f"{stage}{BEFORE}.safetensors"
    if not weights.is_file():
        return False
    make_folder(copy.parent)
    for file in (weights.with_suffix(".json"), bundled.work() / f"{stage}.csv", weights):  # weights last: then complete
        if file.is_file() and not copy.is_file():
            copy_file(file, copy.with_suffix(file.suffix))
    return True
