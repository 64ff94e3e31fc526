"""Certified accuracy against radius: the share of the images with a correct certificate of at least this radius."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, MultipleLocator

from bench.plots.style import INK, SOFT, Page, annotate, nothing, percent_tick, remarks, styled
from bench.summary import Summary
from bench.summary.palette import FAMILIES
from bench.summary.rows import conditions, drawable, steps
from bench.summary.statistics import wilson_interval

PANELS_PER_LINE, KEYS_PER_LINE, KEY_LINE = 3, 4, 0.178
_MOST_BANDS = 3  # lines with an interval each; of more lines, only the best and plain smoothing have one
LEFT, BETWEEN, RIGHT, HEADING_ROOM, HEIGHT, AXIS = 0.62, 0.22, 0.2, 0.28, 3.0, 0.5
SPACING: dict[str, Any] = {"handlelength": 3, "labelspacing": 0.55, "columnspacing": 2.5}  # of a legend


@styled
def accuracy_vs_radius(summary: Summary) -> Figure:
    """A panel for each sigma, with a line for each purifier up to the largest radius that its draws can certify."""
    rows = drawable(summary)
    if rows.empty:
        return nothing(summary)
    sigmas = sorted(rows["sigma"].unique())
    keys = rows.drop_duplicates("series")
    key_lines = math.ceil(len(keys) / KEYS_PER_LINE)
    panels = height_of(len(sigmas))
    few = rows.groupby("sigma").size().max() <= _MOST_BANDS
    some = "" if few else " of plain smoothing and of the purifier with the highest average certified radius"
    page = Page(
        "Certified accuracy at every radius",
        summary.title,
        [
            conditions(rows) + ".",
            f"Bands: 95 % intervals (Wilson){some}. Dotted line: the largest radius that the draws can certify "
            "for any image.",
            *remarks(summary),
        ],
        panels + key_lines * KEY_LINE + 0.1,
        head=0.72,
    )
    for sigma, axes in zip(sigmas, panel_axes(page, [f"σ = {sigma:g}" for sigma in sigmas]), strict=True):
        draw_curves(axes, rows[rows["sigma"] == sigma], summary.certified)
    series_legend(page, keys, page.head + panels + 0.06)
    return page.figure


def height_of(panels: int) -> float:
    """Inches of so many panels on a page, with their headings and axes."""
    return math.ceil(panels / PANELS_PER_LINE) * (HEADING_ROOM + HEIGHT + AXIS)


def panel_axes(page: Page, headings: Sequence[str]) -> Iterator[Axes]:
    """Axes against radius below each heading, side by side and line by line."""
    across = min(len(headings), PANELS_PER_LINE)
    width = (page.WIDTH - LEFT - RIGHT - (across - 1) * BETWEEN) / across
    for i, heading in enumerate(headings):
        line, column = divmod(i, across)
        left, top = LEFT + column * (width + BETWEEN), line * (HEADING_ROOM + HEIGHT + AXIS)
        page.heading(left, top, heading)
        axes = page.axes(left, top + HEADING_ROOM, width, HEIGHT)
        axes.tick_params(labelleft=column == 0)
        axes.set_xlabel("Radius (L2, pixels in [0, 1])")
        yield axes


def series_legend(page: Page, keys: pd.DataFrame, top: float) -> None:
    """A legend entry for each of the rows, at inches from the top of the page."""
    handles = [
        Line2D([], [], color=FAMILIES[row["family"]].colour, ls=row["dash"], lw=1.7, label=row["series"])
        for row in keys.to_dict("records")
    ]
    page.legend(handles, LEFT, top, ncols=min(KEYS_PER_LINE, len(handles)), **SPACING)


def draw_curves(
    axes: Axes, rows: pd.DataFrame, certified: Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray]]
) -> None:
    """The lines of one sigma, the best on top; `certified` as a summary has it."""
    reach = rows["largest"].max()
    counted = rows.loc[~rows["imported"], "largest"].max()
    rows = rows.sort_values("acr")
    rivals = rows[(rows["family"] != "none") & ~rows["imported"]]
    best = None if rivals.empty else rivals["cell"].iloc[-1]
    farthest = 0.0
    for row in rows.to_dict("records"):
        _, radii = certified[row["run"], row["cell"]]
        images, radii = len(radii), np.sort(radii[radii >= 0])
        x, hits = steps(radii, row["largest"])
        farthest = max(farthest, float(x[-1]))
        colour = FAMILIES[row["family"]].colour
        width, order = 1.0 if row["imported"] else 1.5, 2 if row["family"] == "none" else 3
        axes.step(x, hits / images, color=colour, ls=row["dash"], lw=width, dash_capstyle="butt", zorder=order)
        if len(rows) <= _MOST_BANDS or row["family"] == "none" or row["cell"] == best:
            band = np.array([wilson_interval(int(h), images) for h in hits])
            axes.fill_between(x, band[:, 0], band[:, 1], step="pre", color=colour, alpha=0.16, lw=0, zorder=1)
    end = reach if math.isfinite(reach) and reach > 0 else farthest or 1.0
    axes.set_xlim(0, end * 1.03)
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.yaxis.set_major_formatter(percent_tick)
    if math.isfinite(counted) and counted > 0:
        axes.axvline(counted, color=INK, lw=0.9, ls=(0, (1, 2)), zorder=1.5)
        look = {"ha": "right", "va": "top", "color": SOFT, "zorder": 6}
        box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1}
        transform = axes.get_xaxis_transform()
        annotate(axes, f"largest: {counted:.3g}", (counted, 1), transform, (-4, -2), bbox=box, **look)
