"""Summaries that are made by hand, for tests of what is read from them."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from bench.certify.base import Certifier
from bench.certify.fixed import FixedN
from bench.records import COUNTED, IMPORTED, Cell, parameters_text
from bench.summary.cells import _describe_row
from bench.summary.notes import notes, untimed
from bench.summary.summary import Summary, _table_of

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
        label: plugin's name, with parameters in brackets: `pf-ode(steps=3)`.
        radii: certified radius of every image, -1 if it is wrong or abstained.
        rule: with constants; `sequential NAME` is a sequential rule.
        cell: fields of its cell that are not as in `CELL`.
        first: number of the first image.
        gflops, joint: GFLOPs and milliseconds per vote.
        wanted: images that were asked for; None: as many as there are.
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
    gflops: float = math.nan
    joint: float = math.nan
    device: str = "CPU"
    certifier: Certifier | None = None
    cell: dict[str, Any] = field(default_factory=dict)


def parsed(label: str) -> tuple[str, dict[str, Any]]:
    """The plugin's name and the parameters of a label, numbers as numbers."""
    name, _, inside = label.partition("(")
    if "=" not in inside or name.endswith(" "):  # or the name itself has a bracket
        return label, {}
    tree = ast.parse(f"f({inside.rstrip(')')})", mode="eval").body
    assert isinstance(tree, ast.Call)
    values = {
        str(k.arg): k.value.id if isinstance(k.value, ast.Name) else ast.literal_eval(k.value) for k in tree.keywords
    }
    return name, values


def row_facts(label: str, rule: str, source: str) -> dict[str, Any]:
    """The columns of a row that follow from its label and its rule."""
    purifier, parameters = parsed(label)
    certifier = rule.partition(" (")[0]
    return {
        "purifier": label if source == IMPORTED else purifier,
        "parameters": "" if source == IMPORTED else parameters_text(parameters),
        "source": source,
        "certifier": certifier.removeprefix("sequential "),
        "sequential": certifier.startswith("sequential "),
        "label_aware": "label-aware" in rule,
        "rule": rule,
    }


def summary_of(*rows: Row, radii: Sequence[float] = (0.0, 0.25, 0.5)) -> Summary:
    """The summary that `summarise` would make of these rows."""
    table, certificates, cells, certifiers = [], [], {}, {}
    for row in rows:
        purifier, parameters = parsed(row.label)
        cell = Cell(purifier=purifier, parameters=parameters, sigma=row.sigma, **{**CELL, **row.cell})
        certified = np.asarray(row.radii, float)
        images = pd.DataFrame(
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
        certificates.append(images)
        table.append(
            {
                "run": row.run,
                "cell": cell.key,
                **row_facts(row.label, row.rule, row.source),
                "family": row.family,
                "dataset": cell.dataset,
                "sigma": row.sigma,
                "wanted": len(certified) if row.wanted is None else row.wanted,
                "error": row.error,
                "largest": row.largest,
                "images": 0,
                "nfe": row.nfe,
                "ms_purify": row.ms,
                "gflops": row.gflops,
                "ms_joint": row.joint,
                "device": row.device,
                **(_describe_row(images, radii, row.largest) if len(images) else {}),
            }
        )
        if row.source == COUNTED:
            cells[row.run, cell.key] = cell
            certifiers[row.run, cell.key] = row.certifier or FixedN(row.sigma, 10, 40, 0.001)
    frame = _table_of(table, radii, list(cells.values()))
    return Summary(
        "Made",
        frame,
        pd.concat(certificates, ignore_index=True),
        tuple(radii),
        tuple(notes([], frame, untimed({}, frame))),
        cells,
        certifiers,
        untimed=untimed({}, frame),
    )


def with_versions(summary: Summary, *purifiers: str, run: str | None = None, **versions: int) -> Summary:
    """Give the cells of some purifiers, or of a run, version numbers: an identity that is recorded in another way."""
    for (name, _), cell in summary.cells.items():
        if cell.purifier in purifiers or name == run:
            cell.__dict__["versions"] = {"noise": 1, "engine": 1, **versions}
    return summary


def hits(images: int, *certain: int | range, radius: float = 1.0) -> np.ndarray:
    """Radii of so many images, of which those that are named (by number or range) are certified."""
    radii = np.full(images, -1.0)
    for which in certain:
        radii[list(which) if isinstance(which, range) else which] = radius
    return radii
