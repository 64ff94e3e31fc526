"""Rows of a summary side by side, image by image, and what keeps them from being compared. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from bench.records import Cell
from bench.summary.fronts import SCALES, hypervolume
from bench.summary.names import short_names
from bench.summary.statistics import CONFIDENCE, FEWEST, resampled_means
from bench.summary.summary import COUNTED, Summary

GRID = r", radii \d[\d. ]*(to [\d.]+ \(\d+ of them\))?"


def certified(summary: Summary, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The certified radius of every image that all the rows share, under each of them.

    Returns:
        images `[n]`, and radii `[n, rows]`, -1 where an image is wrong or abstained. There are no images where the
        rows are of different data sets, whose images have nothing in common but their numbers.
    """
    known = [summary.certified.get(key) for key in zip(rows["run"], rows["cell"], strict=True)]
    found = [pair for pair in known if pair is not None]
    if not known or len(found) < len(known) or len(data_sets(summary, rows)) > 1:
        return np.array([], int), np.empty((0, len(rows)))
    shared = reduce(in_both, (images for images, _ in found))
    columns = [radii if len(images) == len(shared) else radii[np.isin(images, shared)] for images, radii in found]
    return shared, np.stack(columns, axis=1)


def in_both(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """What is in both of two ascending arrays, which are most often the same."""
    return first if np.array_equal(first, second) else np.intersect1d(first, second, assume_unique=True)


def cell_of(summary: Summary, row: Any) -> Cell | None:
    """What decided the counts of a row; None for published logs, of which that is not known."""
    return summary.cells.get((row["run"], row["cell"]))


def data_sets(summary: Summary, rows: pd.DataFrame) -> list[str]:
    """The data sets of the rows, with their fingerprints where one name stands for several."""
    cells = [cell for _, row in rows.iterrows() if (cell := cell_of(summary, row)) is not None]
    known = dict.fromkeys((cell.dataset, cell.data_hash) for cell in cells)
    names = [name for name, _ in known]
    return [name if names.count(name) == 1 else f"{name} ({print_})" for name, print_ in known]


def facts(cell: Cell) -> dict[str, str]:
    """What decided the counts of a cell besides its purifier's name and sigma, by what a person calls it."""
    parameters = ", ".join(f"{k}={v}" for k, v in cell.parameters.items())
    inside = ", ".join(f"{k}={v}" for k, v in cell.classifier_parameters.items())
    return {
        "images": f"{cell.dataset} ({cell.data_hash})",
        "seed of the noise": str(cell.seed),
        "precision": cell.precision,
        **({"computed": ", ".join(f"{k}={v}" for k, v in cell.compute.items())} if cell.compute else {}),
        "device type": cell.device_type,
        "parameters": parameters or "none",
        "classifier": f"{cell.classifier}({inside})" if inside else cell.classifier,
        **{KINDS.get(name, f"{name} (weights)"): h[:8] for name, h in cell.hashes.items() if h and name != "rule"},
    }


KINDS = {
    "noise": "code of the noise",
    "engine": "code of the engine",
    "nets": "code of the networks",
    "purifier nets": "code of the purifiers' networks",
    "classifier nets": "code of the classifiers' networks",
    "classifier": "code of the classifier",
    "classifier weights": "weights of the classifier",
    "purifier": "code of the purifier",
}


def with_names(summary: Summary) -> pd.DataFrame:
    """The table, its costs as numbers, and with the columns name, shared and complete.

    name: short, with the run's where several runs have the purifier (shared). complete: all images that were asked for
    are certified, and nothing failed.
    """
    table = summary.table
    if table.empty or "images" not in table:
        return pd.DataFrame()
    short = short_names(table)
    shared = table.groupby("label")["run"].transform("nunique") > 1
    names = [
        short[label] + (f" · {run}" if several else "")
        for label, run, several in zip(table["label"], table["run"], shared, strict=True)
    ]
    whole = table["error"].isna() & (table["images"] > 0) & (table["images"] >= table["wanted"])
    cost = {c: pd.to_numeric(table[c]) if c in table else pd.Series(np.nan, table.index) for c in SCALES}
    return table.assign(name=names, shared=shared, complete=whole, **cost)


def certifiers_of(rows: pd.DataFrame) -> list[str]:
    """The certifiers of rows without the radii that they decide, which a fine grid takes from sigma."""
    return sorted({re.sub(GRID, "", str(rule)) for rule in rows["rule"].dropna()})


@dataclass(frozen=True)
class Volume:
    """The hypervolume of a run's front, one number.

    Attributes:
        value, low, high: the average certified radius that a budget buys, averaged over budgets that are uniform on
            the scale, and its 95 % interval (bootstrap over images; NaN with too few of them).
        scale: in words.
        rows: how many rows (purifier and sigma) took part.
    """

    value: float
    low: float
    high: float
    scale: str
    rows: int


def run_volume(summary: Summary, run: str, cost: str = "nfe", seed: int = 0) -> Volume | None:
    """The hypervolume of a run: ACR against a cost, over all of its complete rows with counts, whatever their sigma.

    None where there are no such rows, where they have different certifiers (whose ACRs do not compare), or no images
    in common. `bench.summary.fronts.hypervolume` says what the number means.
    """
    table = with_names(summary)
    rows = table[(table["run"] == run) & (table["source"] == COUNTED) & table["complete"]] if len(table) else table
    if rows.empty or len(certifiers_of(rows)) > 1:
        return None
    images, radii = certified(summary, rows)
    if not len(images):
        return None
    gained, scale = np.maximum(radii, 0.0), SCALES[cost]
    value = float(hypervolume(list(rows[cost]), gained.mean(axis=0), scale))
    low, high = float("nan"), float("nan")
    if len(images) >= FEWEST:
        drawn = hypervolume(list(rows[cost]), resampled_means(gained, seed=seed), scale)
        low, high = (float(q) for q in np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]))
    return Volume(value, low, high, scale.words, len(rows))


def volumes(summary: Summary) -> dict[str, Volume]:
    """The hypervolume of every run that has one, against NFE."""
    runs = [] if summary.table.empty else dict.fromkeys(summary.table["run"])
    return {run: volume for run in runs if (volume := run_volume(summary, run)) is not None}


def number_of(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def listed(words: Iterable[str], most: int = 4) -> str:
    """`a, b and c`; beyond `most`, how many more there are."""
    words = list(words)
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
