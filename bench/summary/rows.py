"""One display frame for all readers: names, colours and markers, a row for each purifier and sigma."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bench.summary.names import short_names
from bench.summary.palette import DASHES, FAMILIES, MARKERS
from bench.summary.summary import IMPORTED, Summary

FIGURES = ("acr", "acr_low", "acr_high", "nfe", "ms_purify", "largest")


def drawable(summary: Summary) -> pd.DataFrame:
    """The rows of a summary that have figures, in the order of the palette, every column that a picture reads present.

    Adds: imported (bool), series (the purifier's name, the same at every sigma), name (the same, with what is peculiar
    to the row), family (one of the palette's), marker, dash.
    """
    table = summary.table.copy()
    if table.empty or "images" not in table:
        return pd.DataFrame()
    for column in (*FIGURES, *(f"{part}@{r:g}" for r in summary.radii for part in ("acc", "acc_low", "acc_high"))):
        table[column] = pd.to_numeric(table[column]) if column in table else np.nan
    for column in ("run", "wanted", "rule", "device"):
        if column not in table:
            table[column] = np.nan
    short = short_names(table)
    table = table[(table["images"].fillna(0) > 0) & table["acr"].notna()]
    if table.empty:
        return pd.DataFrame()
    table["imported"] = table["source"] == IMPORTED
    table["family"] = [f if f in FAMILIES else "other" for f in table["family"]]
    runs_of = table.groupby(["label", "imported"])["run"].transform("nunique")
    table["series"] = [
        short[label] + (" (imported)" if imported else "") + (f" · {run}" if runs > 1 else "")
        for label, imported, run, runs in zip(table["label"], table["imported"], table["run"], runs_of, strict=True)
    ]
    table["name"] = [
        f"{series} ({int(images)} images)" if images < wanted else series
        for series, images, wanted in zip(table["series"], table["images"], table["wanted"], strict=True)
    ]
    order = {name: i for i, name in enumerate(FAMILIES)}
    table["rank"] = table["family"].map(order)
    table = table.sort_values("rank", kind="stable").reset_index(drop=True)
    table["marker"] = cycle(table, "purifier", MARKERS)
    table["dash"] = cycle(table, "series", DASHES)
    return table


def cycle(table: pd.DataFrame, column: str, looks: Sequence[object]) -> pd.Series:
    """A look for each row: within a family, every value of a column has its own, until they are used up."""
    seen: dict[str, list[str]] = {}
    out = []
    for kin, value in zip(table["family"], table[column], strict=True):
        known = seen.setdefault(kin, [])
        if value not in known:
            known.append(value)
        out.append(looks[known.index(value) % len(looks)])
    return pd.Series(out, table.index, dtype=object)


def conditions(rows: pd.DataFrame) -> str:
    """How the rows were measured: images, rule, device."""
    if rows.empty:
        return ""
    counted = rows[~rows["imported"]] if not rows["imported"].all() else rows
    images = sorted({int(i) for i in counted["images"]})
    span = f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}"
    parts = [f"{span} image{'s' if images[-1] > 1 else ''}"]
    parts += sorted({str(rule) for rule in counted["rule"].dropna()})
    parts += sorted({str(device) for device in counted["device"].dropna()})
    return " · ".join(parts)


def steps(radii: np.ndarray, largest: float) -> tuple[np.ndarray, np.ndarray]:
    """How many of the sorted radii reach `x`, at every `x` where that changes (to be drawn as steps-pre).

    The line ends at the largest radius that can be certified; where the images end before, it falls to zero there.
    """
    if not len(radii):
        return np.array([0.0, largest if math.isfinite(largest) else 1.0]), np.array([0.0, 0.0])
    x, first = np.unique(radii, return_index=True)
    hits = len(radii) - first
    x, hits = np.concatenate([[0.0], x]), np.concatenate([[len(radii)], hits])
    if not x[-1] >= largest * (1 - 1e-9):
        x, hits = np.append(x, x[-1]), np.append(hits, 0)
    return x, hits
