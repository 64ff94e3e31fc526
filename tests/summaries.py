"""Summaries that are made by hand, for tests of what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bench.certify.base import Certifier
from bench.certify.fixed import FixedN
from bench.records import Cell
from bench.summary.notes import notes
from bench.summary.summary import COUNTED, Summary, describe_row

CELL: dict[str, Any] = {
    "classifier": "cnn",
    "classifier_parameters": {},
    "dataset": "digits",
    "data_hash": "0" * 16,
    "seed": 0,
    "precision": "fp32",
    "device_type": "cpu",
    "hashes": {"noise": "n" * 16, "purifier": "p" * 16, "classifier weights": "w" * 16},
}


@dataclass(frozen=True)
class Row:
    """A purifier at a sigma.

    Attributes:
        label: of the purifier; what is before a bracket is its name.
        radii: certified radius of every image, -1 where it is wrong or abstained.
        cell: what of its cell is not as in `CELL`.
        first: number of the first image.
        wanted: images that were asked for; None is as many as there are.
    """

    label: str
    radii: Sequence[float] | np.ndarray
    sigma: float = 0.5
    nfe: float = 1.0
    ms: float = 1.0
    run: str = "run"
    family: str = "other"
    source: str = COUNTED
    rule: str = "cohen (N0 = 10, N = 40, alpha = 0.001)"
    largest: float = 10.0
    error: str | None = None
    wanted: int | None = None
    first: int = 0
    device: str = "CPU"
    certifier: Certifier | None = None
    cell: dict[str, Any] = field(default_factory=dict)


def summary_of(*rows: Row, radii: Sequence[float] = (0.0, 0.25, 0.5)) -> Summary:
    """What `summarise` would make of these rows."""
    table, certificates, cells, certifiers = [], [], {}, {}
    for row in rows:
        name, _, inside = row.label.partition("(")
        given = (pair.split("=") for pair in inside.rstrip(")").split(", ") if pair)
        cell = Cell(purifier=name, parameters=dict(given), sigma=row.sigma, **{**CELL, **row.cell})
        certified = np.asarray(row.radii, float)
        mine = pd.DataFrame(
            {
                "cell": cell.key,
                "image": np.arange(len(certified)) + row.first,
                "label": 1,
                "predicted": np.where(certified < 0, -1, 1),
                "radius": np.maximum(certified, 0.0),
                "correct": certified >= 0,
                "rule": row.rule,
                "run": row.run,
            }
        )
        certificates.append(mine)
        table.append(
            {
                "run": row.run,
                "cell": cell.key,
                "label": row.label,
                "purifier": name,
                "family": row.family,
                "sigma": row.sigma,
                "source": row.source,
                "rule": row.rule,
                "wanted": len(certified) if row.wanted is None else row.wanted,
                "error": row.error,
                "largest": row.largest,
                "images": 0,
                "nfe": row.nfe,
                "ms_purify": row.ms,
                "device": row.device,
                **(describe_row(mine, radii) if len(mine) else {}),
            }
        )
        if row.source == COUNTED:
            cells[row.run, cell.key] = cell
            certifiers[row.run, cell.key] = row.certifier or FixedN(row.sigma, 10, 40, 0.001)
    frame = pd.DataFrame(table)
    return Summary(
        "Made",
        frame,
        pd.concat(certificates, ignore_index=True),
        tuple(radii),
        tuple(notes([], frame)),
        cells,
        certifiers,
    )


def hits(images: int, *certain: int | range, radius: float = 1.0) -> np.ndarray:
    """Radii of so many images, of which those that are named (by number or range) are certified."""
    radii = np.full(images, -1.0)
    for which in certain:
        radii[list(which) if isinstance(which, range) else which] = radius
    return radii
