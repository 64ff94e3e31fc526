"""From a summary to the record that the page reads: every figure as a number, and as the words that stand for it.

The page computes no figure: it looks up what is here, so that what it shows is what the summary says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bench.report.shares import add_shares
from bench.report.words import interval, percent, short
from bench.summary.headline import headline
from bench.summary.pairs import certifiers_of
from bench.summary.palette import DASHES, MARKERS
from bench.summary.rows import drawable, steps
from bench.summary.statistics import wilson_interval
from bench.summary.summary import COUNTED, Summary

MOST_STEPS = 160  # of a curve: with more, it is read at this many radii
STAGES = ("noise", "purify", "classify")


def record(summary: Summary) -> dict[str, Any]:
    """All that the charts show: what there is to choose, a row for each purifier and sigma, and its curve."""
    table = drawable(summary)
    found = [summary.certified[key][1] for key in zip(table["run"], table["cell"], strict=True)] if len(table) else []
    rows = [
        row_of(i, row, summary.radii, float((radii >= 0).mean()))
        for i, (row, radii) in enumerate(zip(table.to_dict("records"), found, strict=True))
    ]
    add_shares(summary, table, rows)
    sigma, radius = opening(table, summary.radii)
    return {
        "radii": [figure(r, f"{r:g}") for r in summary.radii],
        "sigmas": [figure(s, f"{s:g}") for s in sorted({row["sigma"]["value"] for row in rows})],
        "opening": {"sigma": sigma, "radius": radius},
        "rows": rows,
        "curves": [
            curve(np.sort(radii[radii >= 0]), len(radii), largest)
            for radii, largest in zip(found, table["largest"] if len(table) else (), strict=True)
        ],
    }


def opening(table: pd.DataFrame, radii: Sequence[float]) -> tuple[float | None, float | None]:
    """The sigma and the radius that the page opens with: those that tell the purifiers apart best."""
    if table.empty:
        return None, radii[0] if radii else None
    sigma, shown = headline(table, radii)
    return sigma, next((metric.radius for metric in shown if metric.percent), radii[0])


def figure(value: float | None, words: str) -> dict[str, Any]:
    return {"value": value, "words": words}


def known(value: Any) -> float | None:
    """A finite number, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def row_of(i: int, row: dict[str, Any], radii: Sequence[float], correct: float) -> dict[str, Any]:
    """One purifier at one sigma."""
    nfe, ms = known(row["nfe"]), known(row["ms_purify"])
    return {
        "id": i,
        "name": row["name"],
        "series": row["series"],
        "label": row["label"],
        "run": row["run"],
        "sigma": figure(float(row["sigma"]), f"{row['sigma']:g}"),
        "family": row["family"],
        "marker": MARKERS.index(row["marker"]),
        "dash": DASHES.index(row["dash"]),
        "imported": bool(row["imported"]),
        "rule": row["rule"],
        "certifier": certifier(row["rule"]),
        "images": int(row["images"]),
        "largest": known(row["largest"]),
        "device": row["device"] if isinstance(row["device"], str) else "",
        "abstained": figure(float(row["abstained"]), percent(row["abstained"])),
        "nfe": figure(nfe, short(nfe)),
        "ms": figure(ms, short(ms)),
        "metrics": metrics(row, radii, correct),
    }


def certifier(rule: str) -> str:
    """A rule as an ACR names it: the same at every sigma, whatever the radii that it decides there."""
    return certifiers_of(pd.DataFrame({"rule": [rule]}))[0]


def metrics(row: dict[str, Any], radii: Sequence[float], correct: float) -> dict[str, Any]:
    """Certified accuracy at every radius that the draws can certify (by the radius), and `acr`.

    Parameters:
        correct: share of the images with a correct certificate, of any radius.
    """
    found = {}
    for r in radii:
        if not row["largest"] < r:  # an imported row may not say
            value, low, high = (float(row[f"{part}@{r:g}"]) for part in ("acc", "acc_low", "acc_high"))
            words = f"{percent(value)} {interval(low, high)}"
            found[f"{r:g}"] = metric(row, value, low, high, words, value)
    acr, ends = float(row["acr"]), (known(row["acr_low"]), known(row["acr_high"]))
    words = f"{acr:.3f}" if None in ends else f"{acr:.3f} [{ends[0]:.3f}, {ends[1]:.3f}]"
    return found | {"acr": metric(row, acr, *ends, words, correct)}


def metric(
    row: dict[str, Any], value: float, low: float | None, high: float | None, words: str, share: float
) -> dict[str, Any]:
    """A figure with its interval, and the device-seconds that each image of a certified share took."""
    seconds = device_seconds(row, share)
    return {"value": value, "low": low, "high": high, "words": words, "seconds": figure(seconds, short(seconds))}


def device_seconds(row: dict[str, Any], share: float) -> float | None:
    """Seconds of all stages over all draws of a row, divided by the images that it certifies.

    None where it certifies none, and where the time was not measured.

    Parameters:
        share: of its images that count as certified.
    """
    if row["source"] != COUNTED or not share:
        return None
    per_draw = sum(row[f"ms_{stage}"] for stage in STAGES) / 1e3
    return known(row["counted_draws"] * per_draw / (share * row["images"]))


def curve(radii: np.ndarray, images: int, largest: float) -> dict[str, list[float]]:
    """Certified accuracy against radius as steps: `y[i]` holds from `x[i - 1]` to `x[i]`.

    `y`, `low` and `high` in percent, rounded as they are shown.

    Parameters:
        radii: of the images with a correct certificate, sorted.
        largest: that the draws can certify.
    """
    x, hits = steps(radii, largest)
    if len(x) > MOST_STEPS:
        x = np.linspace(0.0, x[-1], MOST_STEPS)
        hits = len(radii) - np.searchsorted(radii, x)
    bounds = {int(h): wilson_interval(int(h), images) for h in set(hits)}
    found: dict[str, Iterable[float]] = {"y": hits / images}
    found |= {"low": [bounds[int(h)][0] for h in hits], "high": [bounds[int(h)][1] for h in hits]}
    rounded = {name: [round(100 * float(v), 1) for v in values] for name, values in found.items()}
    return {"x": [round(float(v), 4) for v in x], **rounded}
