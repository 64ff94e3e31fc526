"""Example images of each cell, noisy and purified, stored beside a run (`examples.npz`) for the image grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.errors import InputError
from bench.files import make_folder, read_arrays, writing
from bench.store.checksums import refuse_changed, relisted

EXAMPLES_FILE = "examples.npz"
_FORMAT = 1
_ARRAYS = ("noisy", "purified", "predicted")  # of a panel


@dataclass(frozen=True)
class Panel:
    """The example images of one cell.

    Attributes:
        cell: label of the cell (`Cell.label`).
        sigma: standard deviation of the noise, in [0,1] pixel units.
        noisy, purified: before and after the purifier, uint8 `[M,C,H,W]` (clipped to [0,1] first).
        predicted: class that the classifier gives each purified image, `[M]`.
    """

    cell: str
    sigma: float
    noisy: NDArray[np.uint8]
    purified: NDArray[np.uint8]
    predicted: NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """The clean example images of a run and one panel for each cell.

    Attributes:
        images: indices in the test split, `[M]`.
        labels: true classes, `[M]`.
        classes: names of the classes.
        clean: uint8 `[M,C,H,W]`, one channel or three.
        panels: one for each cell.

    Raises:
        ValueError: the arrays do not belong together; the message names the field.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    clean: NDArray[np.uint8]
    panels: Sequence[Panel]

    def __post_init__(self) -> None:
        if self.clean.ndim != 4 or self.clean.shape[1] not in (1, 3):
            raise InputError(f"clean: expected [M,C,H,W] with C = 1 or 3, got {list(self.clean.shape)}")
        self._check("clean", self.clean, np.uint8)
        self._check("images", self.images, np.integer)
        self._check_classes("labels", self.labels)
        for panel in self.panels:
            place = f"{panel.cell} at sigma = {panel.sigma:g}"
            self._check(f"noisy of {place}", panel.noisy, np.uint8)
            self._check(f"purified of {place}", panel.purified, np.uint8)
            self._check_classes(f"predicted of {place}", panel.predicted)

    def _check(self, name: str, array: np.ndarray, kind: type) -> None:
        """Raise ValueError unless an array holds pixels `[M,C,H,W]`, or one integer for each image `[M]`."""
        shape = self.clean.shape if kind is np.uint8 else self.clean.shape[:1]
        if array.shape != shape or not np.issubdtype(array.dtype, kind):
            wanted = f"{list(shape)} of {kind.__name__}"
            raise InputError(f"{name}: expected {wanted}, got {list(array.shape)} of {array.dtype}")

    def _check_classes(self, name: str, array: np.ndarray) -> None:
        self._check(name, array, np.integer)
        if array.size and not 0 <= array.min() <= array.max() < len(self.classes):
            raise InputError(f"{name}: {array.min()} to {array.max()} is outside the {len(self.classes)} classes")


def write_examples(folder: Path, examples: Examples) -> Path:
    """Write `examples.npz`; returns its path."""
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "images": examples.images,
        "labels": examples.labels,
        "classes": np.array(examples.classes, dtype=np.str_),
        "clean": examples.clean,
        "cells": np.array([panel.cell for panel in examples.panels], dtype=np.str_),
        "sigmas": np.array([panel.sigma for panel in examples.panels], dtype=np.float64),
    }
    for i, panel in enumerate(examples.panels):
        arrays |= {f"{name}_{i}": getattr(panel, name) for name in _ARRAYS}
    path = make_folder(folder) / EXAMPLES_FILE
    with relisted(folder, EXAMPLES_FILE), writing(path) as file:
        np.savez_compressed(file, **arrays)
    return path


def read_examples(folder: Path) -> Examples | None:
    """Read `examples.npz` of a folder; None if there is none.

    Raises:
        ValueError: the file is damaged or of a later format; the message names it.
        StoreError: it is not the one that the list of checksums names.
    """
    path = folder / EXAMPLES_FILE
    if not path.exists():
        return None
    refuse_changed(folder, EXAMPLES_FILE)
    try:
        file = read_arrays(path)
        if int(file["format"]) != _FORMAT:
            raise InputError(f"its format is {int(file['format'])}, this version reads {_FORMAT}")
        return Examples(
            images=file["images"],
            labels=file["labels"],
            classes=tuple(str(name) for name in file["classes"]),
            clean=file["clean"],
            panels=tuple(
                Panel(str(cell), float(sigma), *(file[f"{name}_{i}"] for name in _ARRAYS))
                for i, (cell, sigma) in enumerate(zip(file["cells"], file["sigmas"], strict=True))
            ),
        )
    except Exception as error:  # numpy, zipfile and zlib raise errors of many kinds
        raise InputError(
            f"{path} cannot be read: {error}. Delete it to plot without examples, or let the run make it again"
        ) from error
