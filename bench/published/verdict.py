"""Whether a run reproduces published figures: its certified accuracy against their intervals. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.errors import InputError
from bench.published.beside import rows_on_test_images
from bench.published.figures import Figure
from bench.records import COUNTED
from bench.summary import Summary
from bench.summary.format import listed
from bench.summary.rows import named
from bench.summary.statistics import wilson_interval

INSIDE = "inside its interval"
OUTSIDE = "outside its interval"
TOO_FEW = "too few images to tell"
NO_INTERVAL = "its number of images is not stated"
NOT_ENTERED = "no published figure entered"
NOT_MEASURED = "not measured"
_SHORT = {
    INSIDE: "inside",
    OUTSIDE: "outside",
    TOO_FEW: "too few images",
    NO_INTERVAL: "no interval",
    NOT_ENTERED: "not entered",
    NOT_MEASURED: "not measured",
}


@dataclass(frozen=True)
class Verdict:
    """A published figure and the certified accuracy of a run at its radius.

    Attributes:
        figure: as published.
        verdict: one of the words of this module.
        sigma: of the run's row; the best one if the published one was chosen for each radius.
        hits, images: images of the run that are certified at the radius, and all of its images; None if not measured.
        why: the reason of a figure that was not measured; otherwise empty.
    """

    figure: Figure
    verdict: str
    sigma: float | None = None
    hits: int | None = None
    images: int | None = None
    why: str = ""

    @property
    def short(self) -> str:
        """The verdict in at most three words, for the column of a table."""
        return _SHORT[self.verdict]

    @property
    def accuracy(self) -> float | None:
        """Certified accuracy of the run at the figure's radius."""
        return self.hits / self.images if self.hits is not None and self.images else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval (Wilson)."""
        return wilson_interval(self.hits, self.images) if self.hits is not None and self.images else None


def verdicts(summary: Summary, figures: Iterable[Figure]) -> list[Verdict]:
    """A verdict on each figure that names a purifier.

    `INSIDE` and `OUTSIDE`: whether the accuracy of the run lies in the interval of the figure. A run of fewer images
    than the figure's has `TOO_FEW`, unless both intervals are apart (`OUTSIDE`). Only complete rows on test images of
    the figure's data set count.

    Raises:
        InputError: the purifier of a figure is several rows of the run.
    """
    return [_verdict(summary, figure) for figure in figures if figure.purifier]


def _verdict(summary: Summary, figure: Figure) -> Verdict:
    rows, why = _rows_of(summary, figure)
    # At a low noise level the draws may not reach the radius: there, the best one is another.
    measured = [] if why else [m for row in rows.to_dict("records") if (m := _measured(summary, row, figure.radius))]
    if not why and not measured:
        why = "the rule decides other radii, or the draws cannot certify this one"
    if why:
        return Verdict(figure, NOT_ENTERED if figure.value is None else NOT_MEASURED, why=why)
    sigma, hits, images = max(measured, key=lambda found: found[1] / found[2])
    return Verdict(figure, _word(figure, hits, images), sigma, hits, images)


def _word(figure: Figure, hits: int, images: int) -> str:
    if figure.value is None:
        return NOT_ENTERED
    if (interval := figure.interval) is None or figure.images is None:
        return NO_INTERVAL
    low, high = interval
    if images < figure.images:
        own_low, own_high = wilson_interval(hits, images)
        return OUTSIDE if own_low > high or own_high < low else TOO_FEW
    return INSIDE if low <= hits / images <= high else OUTSIDE


def _rows_of(summary: Summary, figure: Figure) -> tuple[pd.DataFrame, str]:
    """The complete rows behind a figure, one for each noise level; and what is missing, in words."""
    table = named(summary)
    label = table["purifier"] + ("(" + table["parameters"] + ")").where(table["parameters"] != "", "")
    rows = table[((table["purifier"] == figure.purifier) | (label == figure.purifier)) & (table["source"] == COUNTED)]
    if rows.empty:
        return rows, f"the run has no purifier {figure.purifier!r}"
    if others := sorted(set(rows["dataset"]) - {figure.dataset}):
        return rows, f"the run is about {listed(others)}, and the figure about {figure.dataset}"
    if rows["series"].nunique() > 1:
        raise InputError(
            f"{figure.file}: the purifier {figure.purifier!r} is {rows['series'].nunique()} rows of the run; name one "
            f"with its parameters, of {listed(sorted(set(label[rows.index])), 8)}"
        )
    wanted = [figure.sigma] if figure.sigma is not None else list(figure.best_of) or sorted(set(rows["sigma"]))
    if lacking := [s for s in wanted if not np.isclose(rows["sigma"], s).any()]:
        return rows, f"the run has no sigma {listed(f'{s:g}' for s in lacking)}"
    rows = rows[[bool(np.isclose(wanted, sigma).any()) for sigma in rows["sigma"]]]
    tested = rows_on_test_images(summary)
    known = set(zip(tested["run"], tested["cell"], strict=True)) if len(tested) else set()
    if not rows["complete"].all() or not set(zip(rows["run"], rows["cell"], strict=True)) <= known:
        return rows, "its rows are not complete, failed, or are not about test images"
    return rows, ""


def _measured(summary: Summary, row: dict, radius: float) -> tuple[float, int, int] | None:
    """Noise level, certified images and all images of a row; None if its rule cannot decide the radius."""
    if radius > row["largest"] or (row["sequential"] and not any(np.isclose(summary.radii, radius))):
        return None
    _, radii = summary.certified[row["run"], row["cell"]]
    return row["sigma"], int((radii >= radius).sum()), len(radii)
