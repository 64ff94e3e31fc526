"""The rows of a summary and example images, with the names and looks that pictures, tables and report show. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.records import COUNTED, IMPORTED
from bench.store import Examples, Panel
from bench.summary.format import images_text
from bench.summary.names import labels
from bench.summary.palette import DASHES, FAMILIES, MARKERS, family_of
from bench.summary.summary import Summary


def named(summary: Summary) -> pd.DataFrame:
    """The table of a summary as it is displayed, with all of its rows.

    Adds imported (bool) and series: the row's name, with its run if several runs have the purifier, the same at every
    sigma. In the column name, an incomplete row has its number of images added; raced and
    failed rows say so.
    """
    return summary.named.copy()  # a caller may change its own


def drawable(summary: Summary) -> pd.DataFrame:
    """The rows of `named` that have figures, in the order of the palette.

    Adds family (one of the palette's), marker, dash, and competes: whether the row can be on a front, see `_competing`.
    """
    table = named(summary)
    table = table[table["acr"].notna()]
    if table.empty:
        return pd.DataFrame()
    order = {name: i for i, name in enumerate(FAMILIES)}
    table["family"] = [family_of(family) for family in table["family"]]
    table = table.sort_values("family", key=lambda family: family.map(order), kind="stable").reset_index(drop=True)
    looks = {"marker": _cycle(table, "purifier", MARKERS), "dash": _cycle(table, "series", DASHES)}
    return table.assign(**looks, competes=_competing(summary, table))


def _competing(summary: Summary, rows: pd.DataFrame) -> np.ndarray:
    """The rows that a front may compare: those of the images that most rows have, without published logs.

    If there are only logs, those of the data set that most of them have.
    """
    counted = (rows["source"] == COUNTED).to_numpy()
    known = [summary.cells.get(key) for key in zip(rows["run"], rows["cell"], strict=True)]
    images = [summary.certified[key][0].tobytes() for key in zip(rows["run"], rows["cell"], strict=True)]
    data = [(c.split, c.data_hash) if c else ("", "") for c in known]
    groups = pd.factorize(pd.Series(list(zip(rows["dataset"], data, images, strict=True))))[0]
    candidates = counted if counted.any() else ~counted
    most = pd.Series(groups[candidates]).mode()
    return candidates & (groups == most.iloc[0])


def _cycle(table: pd.DataFrame, column: str, looks: Sequence[object]) -> pd.Series:
    """A look for each row: within a family, each value of a column has its own, until they are used up."""
    position = table.groupby("family")[column].transform(lambda values: pd.factorize(values)[0])
    return pd.Series([looks[i % len(looks)] for i in position], table.index, dtype=object)


def conditions(rows: pd.DataFrame) -> str:
    """How the rows were measured: data set, images, rule, device; of each run, and of its logs, if these differ."""
    if rows.empty:
        return ""
    groups = {name: _conditions(part) for name, part in rows.groupby(["run", "source"], sort=False)}
    if len(set(groups.values())) == 1 or len(groups) == 1:
        return next(iter(groups.values()))
    words = {COUNTED: "", IMPORTED: ", imported"}
    return "; ".join(f"{run}{words[source]}: {text}" for (run, source), text in groups.items())


def _conditions(rows: pd.DataFrame) -> str:
    """The conditions of rows of one kind."""
    data_sets, *facts = (sorted(set(rows[column].dropna()) - {""}) for column in ("dataset", "rule", "device"))
    images = images_text(int(images) for images in rows["images"])
    return " · ".join([", ".join(data_sets) or "unknown data set", images, *chain(*facts)])


def steps(radii: np.ndarray, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """The curve of certified images against radius, to be drawn as `steps-pre`: radii, and images that reach each.

    It ends at the largest radius that can be certified, or falls to zero at the last certified one.

    Parameters:
        radii: certified, sorted, ascending.
    """
    if not len(radii):
        return np.array([0.0, largest if math.isfinite(largest) else 1.0]), np.array([0.0, 0.0])
    x, first = np.unique(radii, return_index=True)
    hits = len(radii) - first
    x, hits = np.concatenate([[0.0], x]), np.concatenate([[len(radii)], hits])
    if not x[-1] >= largest * (1 - 1e-9):
        x, hits = np.append(x, x[-1]), np.append(hits, 0)
    return x, hits


class NamedPanel(NamedTuple):
    """A panel with the display name and the family of its purifier; `untouched`: it left the noisy images as they are.

    A purifier that the summary does not have keeps its label as its name, and has the family `other`.
    """

    panel: Panel
    name: str
    family: str
    untouched: bool


def named_panels(summary: Summary, examples: Examples, sigma: float) -> list[NamedPanel]:
    """The panels at one sigma, in the order of the palette."""
    table = summary.table
    known = dict(zip(labels(table), zip(table["name"], table["family"], strict=True), strict=True))
    panels = []
    for panel in examples.panels:
        if panel.sigma == sigma:
            name, family = known.get(panel.cell, (panel.cell, "other"))
            untouched = np.array_equal(panel.purified, panel.noisy)
            panels.append(NamedPanel(panel, name, family_of(family), untouched))
    order = list(FAMILIES)
    return sorted(panels, key=lambda named: order.index(named.family))
