"""The published figures that may stand beside runs: those of the same test images. Pure."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from bench.published.figures import Figure
from bench.summary import Summary
from bench.summary.rows import drawable

READING = (
    "Published figures are quoted as their sources state them, with 95 % intervals (Wilson) for their number of "
    "images, widened by rounding; without an interval, their source does not state the number. Networks, classifiers, "
    "noise, draws, alpha and perhaps images differ: nothing here ranks them against the counts."
)


def rows_on_test_images(summary: Summary) -> pd.DataFrame:
    """The rows of `bench.summary.rows.drawable` on test images; empty if there are none."""
    rows = drawable(summary)
    if rows.empty:
        return rows
    cells = [summary.cells.get(key) for key in zip(rows["run"], rows["cell"], strict=True)]
    return rows[[cell is None or cell.split in ("", "test") for cell in cells]].reset_index(drop=True)


def beside(summary: Summary, figures: Iterable[Figure]) -> dict[str, list[Figure]]:
    """By data set, the figures with a value of the data sets whose test images the summary's rows are about.

    Names of data sets must be equal: CIFAR-10 (JPEG) is not CIFAR-10, and ImageNet at 64x64 is not ImageNet.
    """
    rows = rows_on_test_images(summary)
    found: dict[str, list[Figure]] = {name: [] for name in (rows["dataset"].unique() if len(rows) else ())}
    for figure in figures:
        if figure.value is not None and figure.dataset in found:
            found[figure.dataset].append(figure)
    return {name: own for name, own in found.items() if own}
