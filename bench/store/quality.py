"""What was measured of the quality of purification, kept beside a run (`metrics.json`) for whoever reads it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError

FILE = "metrics.json"
FORMAT = 1


class Kind(NamedTuple):
    """A metric: how a table heads it, its name, what it is, and its unit (empty: none)."""

    head: str
    title: str
    words: str
    unit: str = ""


PIXELS = "pixels in [0, 1]"
KINDS = {  # lower is better, in all of them
    "perceptual": Kind("perceptual", "perceptual distance", "Perceptual distance of the purified to the clean image"),
    "l2": Kind("L2", "L2 distance", "L2 distance of the purified to the clean image", PIXELS),
    "transport": Kind("transport", "transport cost", "Optimal-transport cost, purified to clean set", PIXELS),
    "frechet": Kind(
        "Fréchet", "Fréchet distance", "Fréchet distance of a classifier's features, purified to clean set"
    ),
    "fid": Kind("FID", "FID", "Fréchet Inception distance (FID), purified to clean set"),
}


@dataclass(frozen=True)
class Network:
    """What judged: its name, and a hash of its weights (empty where there are none)."""

    name: str
    hash: str = ""


@dataclass(frozen=True)
class Value:
    """A figure and its 95 % interval (bootstrap over images; None for metrics of whole sets, which have none)."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Measured:
    """One cell of a run.

    Attributes:
        cell: its key in the run; code: the key that the code has now, by which the figures were made.
        label, sigma: of it.
        recounted: draws that were counted again where the keys differ; moved: votes of them that came out differently.
        trained_on: metrics that its network was trained to lower, so that they flatter it.
        values: by metric, those that could be measured.
    """

    cell: str
    code: str
    label: str
    sigma: float
    recounted: int
    moved: int
    trained_on: tuple[str, ...]
    values: Mapping[str, Value]


@dataclass(frozen=True)
class Metrics:
    """The metrics of a run.

    Attributes:
        images, draws: how many images of the run, and how many estimation draws of each (the first ones).
        networks: by metric, what judged.
        missing: by metric, why it could not be measured.
        made: versions, device and precision.
        cells: those that were measured.
    """

    images: int
    draws: int
    networks: Mapping[str, Network]
    missing: Mapping[str, str]
    made: Mapping[str, Any]
    cells: tuple[Measured, ...] = ()

    @property
    def looked_at(self) -> str:
        """On what they were measured, in words."""
        each = "one draw" if self.draws == 1 else f"{self.draws} draws"
        return f"{self.images:,} images, {each} of noise each, of those that were certified"

    def same_draws(self, other: Metrics) -> bool:
        """Whether both look at the same draws, so that their figures stand side by side."""
        return (self.images, self.draws) == (other.images, other.draws)


def write_metrics(folder: Path, metrics: Metrics) -> Path:
    """Write `metrics.json` into a folder, in one go: a reader never meets half a file."""
    path, draft = folder / FILE, folder / f".{FILE}.partial"
    draft.write_text(json.dumps({"format": FORMAT, **asdict(metrics)}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return draft.replace(path)


def read_metrics(folder: Path) -> Metrics | None:
    """Read `metrics.json` of a folder; None where there is none.

    Raises:
        ValueError: the file is damaged or of a later format; the message names it.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        record = json.loads(path.read_text("utf-8"))
        if (found := record.pop("format")) != FORMAT:
            raise InputError(f"its format is {found}, this version reads {FORMAT}")
        record["networks"] = {name: Network(**network) for name, network in record["networks"].items()}
        record["cells"] = tuple(measured(cell) for cell in record["cells"])
        if unknown := {*record["networks"], *(name for c in record["cells"] for name in c.values)} - set(KINDS):
            raise InputError(f"it holds metrics that are not known: {', '.join(sorted(unknown))}")
        return Metrics(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, and `bench metrics` makes it again") from error


def metrics_of(folders: Mapping[str, Path]) -> dict[str, Metrics]:
    """The metrics of those folders (by name) that have some; raises ValueError as `read_metrics`."""
    return {name: found for name, folder in folders.items() if (found := read_metrics(folder)) is not None}


def measured(record: dict[str, Any]) -> Measured:
    """A cell as it was written."""
    values = {name: Value(**value) for name, value in record["values"].items()}
    return Measured(**{**record, "trained_on": tuple(record["trained_on"]), "values": values})
