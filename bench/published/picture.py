"""Certified accuracy of runs against radius, with published figures as hollow marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Picture
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from bench.files import make_folder
from bench.plots.curves import (
    KEY_LINE,
    KEYS_PER_LINE,
    LEFT,
    SPACING,
    draw_curves,
    height_of,
    panel_axes,
    series_legend,
)
from bench.plots.style import INK, Page, bar, remarks, save, styled
from bench.published.beside import READING, beside, rows_on_test_images
from bench.published.figures import Figure
from bench.summary import Summary
from bench.summary.palette import MARKERS
from bench.summary.rows import conditions

_APART = 3.0  # points between marks of one radius
_Certified = Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]


class _Panel(NamedTuple):
    """Rows, their certified radii as a summary has them, and the figures that stand beside them."""

    heading: str
    rows: pd.DataFrame
    certified: _Certified
    figures: list[Figure]


def draw_published(
    summary: Summary, figures: Iterable[Figure], folder: Path, formats: Sequence[str] = ("png", "svg")
) -> list[Path]:
    """Draw `published` (of several data sets `published-DATASET`) into a folder; returns the files.

    Nothing is drawn without figures of the data sets of the summary's test images.
    """
    found = beside(summary, figures)
    make_folder(folder)
    return [
        path
        for dataset, own in found.items()
        for path in save(
            published(summary, dataset, own), folder, f"published-{dataset}" if len(found) > 1 else "published", formats
        )
    ]


@styled
def published(summary: Summary, dataset: str, figures: Sequence[Figure]) -> Picture:
    """A panel for each noise level that rows and figures share, and one for figures of a best or unstated one.

    Parameters:
        dataset: of the rows that are drawn; `figures` are about the same.
    """
    rows = rows_on_test_images(summary)
    rows = rows[rows["dataset"] == dataset]
    panels = _panels(summary, rows, figures)
    shown = pd.concat([panel.rows for panel in panels])
    keys, labels = shown.drop_duplicates("series"), list(dict.fromkeys(figure.label for figure in figures))
    key_lines, body = math.ceil(len(keys) / KEYS_PER_LINE), height_of(len(panels))
    marks_words = f"Hollow marks: published; those of one radius stand side by side. {READING}"
    footer = [conditions(rows) + ".", marks_words, *remarks(summary)]
    height = body + (key_lines + len(labels)) * KEY_LINE + 0.2
    page = Page(f"Beside published figures on {dataset}", summary.title, footer, height, head=0.72)
    for panel, axes in zip(panels, panel_axes(page, [panel.heading for panel in panels]), strict=True):
        draw_curves(axes, panel.rows, panel.certified)
        _draw_marks(axes, panel.figures, labels)
    top = page.head + body + 0.06
    series_legend(page, keys, top)
    marks = [Line2D([], [], ls="", **_look(i), label=label) for i, label in enumerate(labels)]
    page.legend(marks, LEFT, top + key_lines * KEY_LINE + 0.06, ncols=1, **SPACING)
    return page.figure


def _panels(summary: Summary, rows: pd.DataFrame, figures: Sequence[Figure]) -> list[_Panel]:
    sigmas = sorted(set(rows["sigma"]) & {figure.sigma for figure in figures if figure.sigma is not None})
    panels = [
        _Panel(
            f"σ = {sigma:g}",
            rows[rows["sigma"] == sigma],
            summary.certified,
            [figure for figure in figures if figure.sigma == sigma],
        )
        for sigma in sigmas
    ]
    others = [figure for figure in figures if figure.sigma not in sigmas]
    if others:
        panels.append(_Panel("Best σ, or as the key says", *_at_best_sigma(summary, rows), others))
    return panels


def _at_best_sigma(summary: Summary, rows: pd.DataFrame) -> tuple[pd.DataFrame, _Certified]:
    """A row for each purifier, with radii whose curve is at every radius the highest of its noise levels.

    Of curves over as many images, the highest is the curve of the largest first, second, ... radii.
    """
    kept, certified = [], {}
    for _, own in rows.groupby("series", sort=False):
        keys = list(zip(own["run"], own["cell"], strict=True))
        images = max(len(summary.certified[key][1]) for key in keys)
        whole = [np.sort(radii) for key in keys if len(radii := summary.certified[key][1]) == images]
        kept.append(own.iloc[0].to_dict() | {"largest": own["largest"].max()})
        certified[keys[0]] = np.arange(images), np.max(whole, axis=0)
    return pd.DataFrame(kept), certified


def _look(i: int) -> dict[str, Any]:
    return {"marker": MARKERS[i % len(MARKERS)], "ms": 6, "mfc": "white", "mec": INK, "mew": 1.2}


def _draw_marks(axes: Axes, figures: Sequence[Figure], labels: Sequence[str]) -> None:
    """Draw the figures with their intervals; those of one radius stand side by side."""
    here = [label for label in labels if label in {figure.label for figure in figures}]
    for figure in figures:
        if figure.value is None:
            continue
        points = (here.index(figure.label) - (len(here) - 1) / 2) * _APART
        beside = axes.transData + ScaledTranslation(points / 72, 0, axes.figure.dpi_scale_trans)
        if figure.interval is not None:
            bar(axes, [figure.radius] * 2, list(figure.interval), INK, 1.1, transform=beside, zorder=6)
        look = _look(labels.index(figure.label))
        axes.plot([figure.radius], [figure.value], transform=beside, zorder=7, clip_on=False, **look)
    end = 1.06 * max(figure.radius for figure in figures)
    axes.set_xlim(-0.02 * max(end, axes.get_xlim()[1]), max(end, axes.get_xlim()[1]))
