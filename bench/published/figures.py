"""Certified accuracies that papers, their logs or their repositories state, from `results/published/*.toml`.

A figure without a value is a place for one: nobody has read it in its source yet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bench.errors import PurifyBenchError
from bench.files import read_toml, validated
from bench.provenance import ROOT
from bench.summary.statistics import wilson_interval

FOLDER = Path("results") / "published"
_ROUNDING = 1e-9  # of floating-point products, against counts of images
_ANYBODYS = ("folder", "parquet")  # data sets that name no images
_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, le=1e4, allow_inf_nan=False)]


class FiguresError(PurifyBenchError):
    """A file of published figures cannot be read; the message names the file, the field and the remedy."""


@dataclass(frozen=True)
class Figure:
    """One certified accuracy as it was published.

    Attributes:
        source: short name of the publication: `Cohen et al. 2019`.
        url: of the publication.
        method: what was certified, in a few words.
        dataset: as `bench list` names it; `imagenet` for images of full size.
        radius: L2, in [0,1] pixel units.
        value: share of the images; None if nobody has entered it.
        decimals: of the value, a share, as it is printed.
        images: number of images; None if the source does not state it.
        sigma: noise level; None if it was chosen for each radius, or is not stated.
        best_of: the noise levels among which it was chosen for each radius, on the same images; empty if not stated.
        n, alpha: estimation draws and probability of error; None if not stated.
        hardware: as stated; empty if not.
        read: the part of the source that states the figure.
        where: place in it.
        preset, purifier: the preset that reproduces the figure and its purifier (name, or label with parameters).
        file: name of the TOML file.
    """

    source: str
    url: str
    method: str
    dataset: str
    radius: float
    value: float | None
    decimals: int
    images: int | None
    sigma: float | None
    best_of: tuple[float, ...]
    n: int | None
    alpha: float | None
    hardware: str
    read: str
    where: str
    preset: str | None
    purifier: str | None
    file: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval (Wilson) for the number of images; None if that, or the value, is unknown.

        A rounded value stands for several counts of images: the interval covers the intervals of all of them.
        """
        if self.value is None or self.images is None:
            return None
        fewest, most = _counts(self.value, self.decimals, self.images)
        return wilson_interval(fewest, self.images)[0], wilson_interval(most, self.images)[1]

    @property
    def sigma_words(self) -> str:
        """The noise level: `σ 0.25`, `best σ of 0.25, 0.5`, or `σ not stated`."""
        if self.sigma is not None:
            return f"σ {self.sigma:g}"
        return f"best σ of {', '.join(f'{s:g}' for s in self.best_of)}" if self.best_of else "σ not stated"

    @property
    def label(self) -> str:
        """Source, method, noise level, number of images, and part of the source: of all radii of one series."""
        images = "images not stated" if self.images is None else f"{self.images:,} images"
        return f"{self.source}, {self.method} ({self.sigma_words}, {images}, {self.read})"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _Point(_Strict):
    radius: Annotated[float, Field(ge=0, le=1e4, allow_inf_nan=False)]
    value: _Share | None = None


class _Series(_Strict):
    """Figures of one method at several radii; fields as of `Figure`."""

    method: str = Field(min_length=1)
    dataset: str = Field(min_length=1)
    preset: str | None = None
    purifier: str | None = None
    sigma: _Positive | None = None
    best_of: tuple[_Positive, ...] = ()
    n: int | None = Field(None, ge=1)
    alpha: float | None = Field(None, gt=0, lt=1)
    images: int | None = Field(None, ge=1, le=10**9)
    hardware: str = ""
    read: Literal["table", "log", "abstract", "readme"]
    where: str = ""
    decimals: int = Field(ge=1, le=6)
    figures: tuple[_Point, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _agree(self) -> _Series:
        if self.sigma is not None and self.best_of:
            raise ValueError("sigma is one noise level, and best_of is for figures of the best one: give one of them")
        if self.dataset in _ANYBODYS:
            raise ValueError(f"{self.dataset!r} names no images, so no figure can be compared with a run")
        if self.preset is not None and self.purifier is None:
            raise ValueError("preset needs purifier, the preset's row that reproduces the figures")
        if len({point.radius for point in self.figures}) < len(self.figures):
            raise ValueError("a radius stands there twice")
        for point in self.figures:
            if point.value is None or self.images is None:
                continue
            fewest, most = _counts(point.value, self.decimals, self.images)
            if fewest > most:
                raise ValueError(
                    f"{point.value:g} at radius {point.radius:g} is no share of {self.images:,} images with "
                    f"{self.decimals} decimals; correct the value, images or decimals"
                )
        return self


class _Publication(_Strict):
    """A file; `note` is for its readers."""

    source: str = Field(min_length=1)
    url: str = Field(pattern="^https://")
    title: str = ""
    note: str = ""
    series: tuple[_Series, ...] = Field(min_length=1)


def _counts(value: float, decimals: int, images: int) -> tuple[int, int]:
    """The fewest and the most of the images whose share is printed as `value`."""
    half = 0.5 * 10.0**-decimals
    fewest = math.ceil((value - half) * images - _ROUNDING)
    return max(fewest, 0), min(math.floor((value + half) * images + _ROUNDING), images)


def read_figures(path: Path | None = None) -> list[Figure]:
    """The figures of all files of a folder, by name, or of one file.

    Parameters:
        path: a folder or a file; without one, `results/published` here, or else of this installation; none if there is
            no such folder.

    Raises:
        FiguresError: a file cannot be read, or a field is wrong.
    """
    if path is None:
        path = next((folder for folder in (FOLDER, ROOT / FOLDER) if folder.is_dir()), None)
        if path is None:
            return []
    files = sorted(path.glob("*.toml")) if path.is_dir() else [path]
    return [figure for file in files for figure in _read_file(file)]


def _read_file(file: Path) -> list[Figure]:
    try:
        publication = validated(_Publication, read_toml(file))
    except (OSError, ValueError) as error:
        raise FiguresError(
            f"{file} is no file of published figures ({error}); docs/protocols.md describes its fields"
        ) from error
    common: dict[str, Any] = {"source": publication.source, "url": publication.url, "file": file.name}
    return [
        Figure(**common, **point.model_dump(), **series.model_dump(exclude={"figures"}))
        for series in publication.series
        for point in series.figures
    ]
