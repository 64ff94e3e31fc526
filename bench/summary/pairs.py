"""Rows of a summary on the images that they share, and the facts that decide if they compare. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import pandas as pd

from bench.records import COUNTED, Cell, parameters_text
from bench.summary.fronts import NFE_SCALE, hypervolume
from bench.summary.statistics import FEWEST, percentile_interval, resampled_means
from bench.summary.summary import Summary

_HASHES = {  # of a cell -> as they are displayed
    "noise": "code of the noise",
    "engine": "code of the engine",
    "nets": "code of the networks",
    "purifier nets": "code of the purifiers' networks",
    "classifier nets": "code of the classifiers' networks",
    "classifier": "code of the classifier",
    "classifier weights": "weights of the classifier",
    "purifier": "code of the purifier",
}


def certified(summary: Summary, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The certified radius of every image that all the rows share, under each of them.

    Returns:
        images `[n]`, and radii `[n, rows]`, -1 if an image is wrong or abstained. There are no images if the rows are
        of different data sets: equal numbers are different images there.
    """
    known = [pair for key in zip(rows["run"], rows["cell"], strict=True) if (pair := summary.certified.get(key))]
    if not known or len(known) < len(rows) or len(data_sets(summary, rows)) > 1:
        return np.array([], int), np.empty((0, len(rows)))
    shared = reduce(_in_both, (images for images, _ in known))
    columns = [radii if len(images) == len(shared) else radii[np.isin(images, shared)] for images, radii in known]
    return shared, np.stack(columns, axis=1)


def _in_both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The common elements of two ascending arrays."""
    equal = np.array_equal(first, second)  # most often, and faster to find out
    return first if equal else np.intersect1d(first, second, assume_unique=True)


def cells_of(summary: Summary, rows: pd.DataFrame) -> list[Cell]:
    """The cells of rows, without published logs."""
    cells = (summary.cells.get(key) for key in zip(rows["run"], rows["cell"], strict=True))
    return [cell for cell in cells if cell is not None]


def identities_compare(cells: Sequence[Cell]) -> bool:
    """Whether all cells record their identity in one way: with version numbers, or, as earlier versions, without.

    Hashes of both ways differ even if code, weights and images are equal.
    """
    return len({bool(cell.versions) for cell in cells}) <= 1


def data_sets(summary: Summary, rows: pd.DataFrame) -> list[str]:
    """The data sets of the rows, with their fingerprints if several have the same name.

    Fingerprints that were recorded in different ways do not compare: there, equal names are the same data set.
    """
    prints: dict[str, dict[bool, dict[str, None]]] = {
        name or "an unknown one": {True: {"": None}} for name in rows.loc[rows["source"] != COUNTED, "dataset"]
    }
    for cell in cells_of(summary, rows):
        name = cell.dataset if cell.split in ("", "test") else f"{cell.dataset} {cell.split}"
        prints.setdefault(name, {}).setdefault(bool(cell.versions), {})[cell.data_hash] = None
    distinct = {name: max(by_way.values(), key=len) for name, by_way in prints.items()}
    return [
        name if len(hashes) == 1 else f"{name} ({print_})" for name, hashes in distinct.items() for print_ in hashes
    ]


def part_of(summary: Summary, rows: pd.DataFrame) -> str:
    """The part of the data sets that the rows were counted on, in words: `test set`, `val set`."""
    return f"{' and '.join(sorted({cell.split or 'test' for cell in cells_of(summary, rows)}))} set"


def _flat(compute: Mapping[str, object], within: str = "") -> dict[str, object]:
    """`Cell.compute` on one level: `classifier.compile`, `edm.precision`."""
    flat: dict[str, object] = {}
    for name, value in compute.items():
        inner = "" if name == "networks" else f"{within}{name}."
        flat |= _flat(value, inner) if isinstance(value, Mapping) else {f"{within}{name}": value}
    return flat


def settings(cell: Cell) -> dict[str, str]:
    """The settings that decide the counts of a cell besides its purifier and sigma, by their displayed names."""
    return {
        "data set": cell.dataset,
        "seed of the noise": str(cell.seed),
        **({"noise": cell.noise} if cell.noise else {}),
        "precision": cell.precision,
        **({"computed": parameters_text(_flat(cell.compute))} if cell.compute else {}),
        "device type": cell.device_type,
        "parameters": parameters_text(cell.parameters) or "none",  # the classifier has an entry of its own
        "classifier": cell.classifier_text,
    }


def identity(cell: Cell) -> dict[str, str]:
    """Version numbers and hashes of the code, the weights and the images of a cell, by their displayed names.

    Compare them only between cells whose `identities_compare`.
    """
    hashes = {"images": cell.data_hash} | {
        _HASHES.get(name, f"weights of the {name}"): hash_[:8]
        for name, hash_ in cell.hashes.items()
        if hash_ and name != "rule"
    }
    return {f"version of the {name}": str(version) for name, version in cell.versions.items()} | hashes


def certifiers_of(rows: pd.DataFrame) -> list[str]:
    """The certifiers of rows with their constants: average certified radii of different ones do not compare."""
    return sorted(set(rows["rule"].dropna()))


@dataclass(frozen=True)
class _Volume:
    """The hypervolume of a run's front, one number.

    Attributes:
        value, low, high: the average certified radius that a budget buys, averaged over budgets that are uniform on
            the scale, and its 95 % interval (bootstrap over images; NaN with too few of them).
        scale: in words.
        rows: number of rows (purifier and sigma) that took part.
    """

    value: float
    low: float
    high: float
    scale: str
    rows: int


def run_volume(summary: Summary, run: str) -> _Volume | None:
    """The hypervolume of a run: ACR against NFE, over all of its complete rows with counts, whatever their sigma.

    None if the radii of these rows do not compare. `bench.summary.fronts.hypervolume` defines the number.
    """
    table = summary.table
    rows = table[(table["run"] == run) & (table["source"] == COUNTED) & table["complete"]]
    if (radii := comparable_radii(summary, rows)) is None:
        return None
    value, resampled = resampled_volume(list(rows["nfe"]), radii)
    return _Volume(value, *percentile_interval(resampled), NFE_SCALE, len(rows))


def comparable_radii(summary: Summary, rows: pd.DataFrame) -> np.ndarray | None:
    """Certified radii `[images, rows]` whose averages compare.

    None without rows, if they have different certifiers, or no images in common.
    """
    if rows.empty or len(certifiers_of(rows)) > 1:
        return None
    images, radii = certified(summary, rows)
    return radii if len(images) else None


def resampled_volume(nfe: Sequence[float], radii: np.ndarray) -> tuple[float, np.ndarray]:
    """The hypervolume of certified radii `[images, options]`, and of their resamples (one NaN with too few images)."""
    gained = np.maximum(radii, 0.0)
    value = float(hypervolume(nfe, gained.mean(axis=0)))
    return value, hypervolume(nfe, resampled_means(gained)) if len(gained) >= FEWEST else np.array([np.nan])


def volumes(summary: Summary) -> dict[str, _Volume]:
    """The hypervolume of every run that has one, against NFE."""
    runs = dict.fromkeys(summary.table["run"])
    return {run: volume for run in runs if (volume := run_volume(summary, run)) is not None}
