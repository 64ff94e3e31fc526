"""The record of a summary that the charts of the page read: every figure as a number and as text.

The page computes no figures, it only looks them up here: so they are the summary's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.records import COUNTED
from bench.report.figures import figure, interval_text, known
from bench.report.shares import add_shares
from bench.summary import Summary
from bench.summary.cells import accuracy_columns
from bench.summary.format import percent, percent_interval
from bench.summary.headline import headline
from bench.summary.palette import DASHES, MARKERS
from bench.summary.rows import drawable, steps
from bench.summary.statistics import wilson_interval

_MOST_STEPS = 160  # of a curve: one with more is drawn at this many radii
STAGES = ("noise", "purify", "classify")


def record(summary: Summary) -> dict[str, Any]:
    """Everything that the charts show: the choices, a row for each purifier and sigma, and its curve."""
    table = drawable(summary)
    certified = [(row, summary.certified[row["run"], row["cell"]][1]) for row in table.to_dict("records")]
    rows = [_row_of(i, row, summary.radii, float((radii >= 0).mean())) for i, (row, radii) in enumerate(certified)]
    add_shares(summary, table, rows)
    sigma, radius = _opening(table, summary.radii)
    return {
        "radii": [figure(r, f"{r:g}") for r in summary.radii],
        "sigmas": [figure(s, f"{s:g}") for s in sorted({row["sigma"]["value"] for row in rows})],
        "opening": {"sigma": sigma, "radius": radius},
        "rows": rows,
        "curves": [_curve(np.sort(radii[radii >= 0]), len(radii), row["largest"]) for row, radii in certified],
    }


def _opening(table: pd.DataFrame, radii: Sequence[float]) -> tuple[float | None, float | None]:
    """The sigma and the radius that the page shows first: those that separate the purifiers best."""
    if table.empty:
        return None, radii[0] if radii else None
    sigma, shown = headline(table, radii)
    return sigma, next((metric.radius for metric in shown if metric.percent), radii[0])


def _row_of(i: int, row: dict[str, Any], radii: Sequence[float], correct: float) -> dict[str, Any]:
    """One purifier at one sigma; `correct` as `_metrics` takes it."""
    return {
        "id": i,
        **{name: row[name] for name in ("name", "series", "purifier", "parameters", "run", "cell", "family")},
        "sigma": figure(float(row["sigma"]), f"{row['sigma']:g}"),
        "marker": MARKERS.index(row["marker"]),
        "dash": DASHES.index(row["dash"]),
        "imported": bool(row["imported"]),
        "competes": bool(row["competes"]),
        "certifier": row["rule"],
        "images": int(row["images"]),
        "largest": known(row["largest"]),
        "abstained": figure(float(row["abstained"]), percent(row["abstained"])),
        "nfe": figure(known(row["nfe"])),
        "ms": figure(known(row["ms_purify"])),
        "gflops": figure(known(row["gflops"])),
        "joint": figure(known(row["ms_joint"])),
        "metrics": _metrics(row, radii, correct),
    }


def _metrics(row: dict[str, Any], radii: Sequence[float], correct: float) -> dict[str, Any]:
    """By radius, certified accuracy at every radius that the draws can certify; and `acr`.

    Parameters:
        correct: share of the images with a correct certificate, of any radius.
    """
    entries = {}
    for r in radii:
        value, low, high = (float(row[column]) for column in accuracy_columns(r))
        if known(value) is not None:
            words = f"{percent(value)} {percent_interval(low, high)}"
            seconds = figure(_device_seconds(row, value))
            entries[f"{r:g}"] = figure(value, words) | {"low": low, "high": high, "seconds": seconds}
    acr, ends = float(row["acr"]), (known(row["acr_low"]), known(row["acr_high"]))
    words, seconds = f"{acr:.3f} {interval_text(*ends)}".rstrip(), figure(_device_seconds(row, correct))
    return entries | {"acr": figure(acr, words) | {"low": ends[0], "high": ends[1], "seconds": seconds}}


def _device_seconds(row: dict[str, Any], share: float) -> float | None:
    """Seconds of all stages over all draws of a row, divided by the images that it certifies.

    None if it certifies none, or if the time was not measured.

    Parameters:
        share: of its images that count as certified.
    """
    if row["source"] != COUNTED or not share:
        return None
    per_draw = sum(row[f"ms_{stage}"] for stage in STAGES) / 1e3
    return known(row["counted_draws"] * per_draw / (share * row["images"]))


def _curve(radii: np.ndarray, images: int, largest: float) -> dict[str, list[float]]:
    """Certified accuracy against radius as steps: `y[i]` is the value from `x[i - 1]` to `x[i]`.

    `y`, `low` and `high` (Wilson's 95 % interval) in percent, rounded to the decimals that are shown.

    Parameters:
        radii: of the images with a correct certificate, sorted.
        largest: that the draws can certify.
    """
    x, hits = steps(radii, largest)
    if len(x) > _MOST_STEPS:
        x = np.linspace(0.0, x[-1], _MOST_STEPS)
        hits = len(radii) - np.searchsorted(radii, x)
    bounds = {int(h): wilson_interval(int(h), images) for h in set(hits)}
    shares: dict[str, Iterable[float]] = {"y": hits / images}
    shares |= {"low": [bounds[int(h)][0] for h in hits], "high": [bounds[int(h)][1] for h in hits]}
    rounded = {name: [round(100 * float(v), 1) for v in values] for name, values in shares.items()}
    return {"x": [round(float(v), 4) for v in x], **rounded}


def times(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a table with their milliseconds of all stages: the total, and the longest total of their sigma.

    Adds parameters (of the purifier's networks, in millions) and peak (memory, GiB).
    """
    if table.empty:
        return []
    timed = table[(table["source"] == COUNTED) & table["ms_purify"].notna()]
    total = timed[[f"ms_{stage}" for stage in STAGES]].sum(axis=1)
    others = {"parameters": timed["network_parameters"] / 1e6, "peak": timed["peak_bytes"] / 2**30}
    longest = total.groupby(timed["sigma"]).transform("max")
    return timed.assign(total=total, longest=longest, **others).to_dict("records")
