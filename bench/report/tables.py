"""The lines of the page's tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.records import COUNTED
from bench.report.data import STAGES
from bench.report.figures import UNKNOWN, known, short
from bench.summary.format import percent_interval


def columns(radii: Sequence[dict[str, Any]]) -> list[str]:
    """The column headings of the table of all figures."""
    return ["purifier", "σ", *(f"≥ {r['words']}" for r in radii), "ACR", "abstained", "NFE", "ms", "images"]


def cells(row: dict[str, Any], radii: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line of the table of all figures."""
    accuracies = [
        cell(m["value"], f"{100 * m['value']:.1f}", percent_interval(m["low"], m["high"])) if m else cell(None, UNKNOWN)
        for m in (row["metrics"].get(r["words"]) for r in radii)
    ]
    words, _, small = row["metrics"]["acr"]["words"].partition(" ")
    costs = [cell(row[name]["value"], row[name]["words"]) for name in ("abstained", "nfe", "ms")]
    acr = cell(row["metrics"]["acr"]["value"], words, small)
    return [
        cell(row["sigma"]["value"], row["sigma"]["words"]),
        *accuracies,
        acr,
        *costs,
        cell(row["images"], f"{row['images']:,}"),
    ]


def cell(value: float | None, words: str, small: str = "") -> dict[str, Any]:
    return {"value": "" if value is None else value, "words": words, "small": small}


def times(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Milliseconds of each stage by row; `share` is in percent of the longest row of its sigma."""
    if table.empty:
        return []
    timed = table[(table["source"] == COUNTED) & table["ms_purify"].notna()]
    stages = timed[[f"ms_{stage}" for stage in STAGES]]
    total = stages.sum(axis=1)
    longest = total.groupby(timed["sigma"]).transform("max")
    return [
        {
            "name": row["name"],
            "family": row["family"],
            "sigma": row["sigma"],
            "device": row["device"],
            "stages": [
                {
                    "name": s,
                    "value": row[f"ms_{s}"],
                    "words": short(known(row[f"ms_{s}"])),
                    "share": 100 * row[f"ms_{s}"] / most,
                }
                for s in STAGES
            ],
            "sum": {"value": whole, "words": short(whole)},
        }
        for row, whole, most in zip(timed.to_dict("records"), total, longest, strict=True)
    ]
