"""A preset for a zoo of own images, written beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bench import data
from bench.files import make_folder, write_file
from bench.records import EACH_SIGMA
from bench.training.jobs import Job

_IMAGES = 200  # at most: a first sweep takes minutes
_SIGMAS = [0.25, 0.5, 1.0]
_PURIFIERS = {  # stage -> the purifiers that it makes possible
    "ddpm": ("onestep-ddpm",),
    "edm": ("onestep-edm", "ddim:steps=2", "pf-ode:steps=2"),
    "edm-ft": ("onestep-edm-ft",),
    "edm-cal": ("onestep-edm-cal",),
    "cm": ("consistency",),
    "cm-ft": ("consistency-ft",),
}
_OWN_CLASSIFIERS = {"noisy-classifier": "none", "classifier-ft": "onestep-edm"}  # stage -> the purifier before it


def write_preset(job: Job) -> Path:
    """Write `OUT/NAME.toml`, a sweep of one to three purifiers for each network that is trained; returns its path.

    `data` is relative to the preset. Networks are named as the command that trained them named their folder.

    Raises:
        DataError: there are no test images.
    """
    job = replace(job, sigmas=None)  # with which the files have other names
    assert job.out and job.data
    split = data.load(job.dataset, "test", job.data, job.size)
    folder = Path(job.data).expanduser().resolve()
    networks = [stage for stage in _PURIFIERS if job.path(stage).is_file()]
    possible = ["none", *(name for stage in networks for name in _PURIFIERS[stage])]
    own = [
        f"{_OWN_CLASSIFIERS[stage]}@cnn:path={path}"
        for stage in _OWN_CLASSIFIERS
        if _OWN_CLASSIFIERS[stage] in possible
        for path in _classifiers(job.path(stage))
    ]
    purifiers = [*possible, *own]
    fields = {
        "title": f"Own images: {folder.name}",
        "dataset": job.dataset,
        "data": os.path.relpath(folder, Path(job.out).resolve()),
        **({"size": job.size} if job.size else {}),
        "images": min(_IMAGES, len(split.labels)),
        "classifier": f"cnn:path={job.path('classifier')}",
        "purifiers": purifiers,
        "sigmas": _SIGMAS,
        "certifier": "cohen",
        "n0": 10,
        "n": 100,
        "radii": [0.0, 0.1, 0.25, 0.5, 0.75, 1.0],
        "precision": "auto",
    }
    lines = [
        "# Every `bench train` of these images writes this again: edit a copy. Networks are named from where it ran."
    ]
    lines += [f"{name} = {json.dumps(value)}" for name, value in fields.items()]
    lines += ["", "[networks]", *(f"{stage} = {json.dumps(str(job.path(stage)))}" for stage in networks)]
    path = make_folder(Path(job.out)) / f"{folder.stem}.toml"
    return write_file(path, "\n".join(lines) + "\n")


def _classifiers(path: Path) -> Iterator[Path]:
    """The classifiers of a stage that are there: one for all sigmas, and those for each as one path with `{sigma}`."""
    if path.is_file():
        yield path
    if all(path.with_stem(f"{path.stem}-{sigma:g}").is_file() for sigma in _SIGMAS):
        yield path.with_stem(f"{path.stem}-{EACH_SIGMA}")
