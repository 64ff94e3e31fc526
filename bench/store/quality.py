"""Metrics of the quality of purification, stored beside a run (`metrics.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic.dataclasses import dataclass

from bench.errors import InputError
from bench.store.record import read_record, write_record

FILE = "metrics.json"
_FORMAT = 1


class _Kind(NamedTuple):
    """A metric: its table heading, its name, its description, and its unit (empty if it has none)."""

    head: str
    title: str
    words: str
    unit: str = ""


_PIXELS = "pixels in [0, 1]"
KINDS = {  # lower is better for every metric
    "perceptual": _Kind("perceptual", "perceptual distance", "Perceptual distance of the purified to the clean image"),
    "imagenet": _Kind(
        "ImageNet", "ImageNet distance", "Distance of the purified to the clean image in ImageNet features"
    ),
    "l2": _Kind("L2", "L2 distance", "L2 distance of the purified to the clean image", _PIXELS),
    "transport": _Kind("transport", "transport cost", "Optimal-transport cost, purified to clean set", _PIXELS),
    "frechet": _Kind(
        "Fréchet", "Fréchet distance", "Fréchet distance of a classifier's features, purified to clean set"
    ),
    "fid": _Kind("FID", "FID", "Fréchet Inception distance (FID), purified to clean set"),
}


@dataclass(frozen=True, config={"extra": "forbid"})
class Network:
    """The model or feature extractor of a metric: its name, and a hash of its weights (empty if it has none)."""

    name: str
    hash: str = ""


@dataclass(frozen=True, config={"extra": "forbid"})
class Value:
    """A figure and its 95 % bootstrap interval over images; None for metrics of whole sets, which have no interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, config={"extra": "forbid"})
class Measured:
    """The metrics of one cell.

    Attributes:
        cell: key of the cell in the run.
        code: key of the cell under the code that made the figures.
        label, sigma: of the cell.
        recounted: draws that were counted again because the keys differ.
        moved: votes among the recounted draws that changed.
        trained_on: metrics that the cell's network was trained to lower, which are biased in its favour.
        values: metric -> value, for the metrics that could be measured.
    """

    cell: str
    code: str
    label: str
    sigma: float
    recounted: int
    moved: int
    trained_on: tuple[str, ...]
    values: Mapping[str, Value]


@dataclass(frozen=True, config={"extra": "forbid"})
class Metrics:
    """The metrics of a run.

    Attributes:
        images, draws: number of images, and of estimation draws of each, the first ones of the run.
        networks: metric -> model or feature extractor.
        missing: metric -> the reason why it could not be measured.
        made: versions, device and precision of the measurement.
        cells: the measured cells.
    """

    images: int
    draws: int
    networks: Mapping[str, Network]
    missing: Mapping[str, str]
    made: Mapping[str, Any]
    cells: tuple[Measured, ...] = ()

    @property
    def looked_at(self) -> str:
        """The sample of the measurement, in words."""
        each = "one draw" if self.draws == 1 else f"{self.draws} draws"
        return f"{self.images:,} images, {each} of noise each, of those that were certified"

    def same_draws(self, other: Metrics) -> bool:
        """Whether both use the same draws, so that their figures are comparable."""
        return (self.images, self.draws) == (other.images, other.draws)


def write_metrics(folder: Path, metrics: Metrics) -> Path:
    """Write `metrics.json`; returns its path."""
    return write_record(folder / FILE, metrics, _FORMAT, indent=1)


def read_metrics(folder: Path) -> Metrics | None:
    """Read `metrics.json` of a folder; None if there is none. Raises ValueError as `read_record`."""
    return read_record(folder / FILE, Metrics, _FORMAT, "bench metrics", _refuse_unknown)


def _refuse_unknown(metrics: Metrics) -> None:
    measured = {*metrics.networks, *(name for cell in metrics.cells for name in cell.values)}
    if unknown := measured - set(KINDS):
        raise InputError(f"it holds unknown metrics: {', '.join(sorted(unknown))}")


def metrics_of(folders: Mapping[str, Path]) -> dict[str, Metrics]:
    """Name -> metrics, for the folders that have metrics; raises ValueError as `read_metrics`."""
    return {name: metrics for name, folder in folders.items() if (metrics := read_metrics(folder)) is not None}
