"""Gains over a baseline, image by image: a mark and an interval for each purifier, and a line at zero."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.analysis import gain_sentences, paired_gains
from bench.plots.style import HEADING, INK, LABEL, SOFT, Page, annotate, mark, nothing, remarks, styled
from bench.summary import Summary
from bench.summary.names import rows_called
from bench.summary.palette import FAMILIES
from bench.summary.rows import conditions, drawable
from bench.summary.statistics import CONFIDENCE

NAMES, BETWEEN, RIGHT, NUMBERS, HEADING_ROOM, ROW, AXIS = 1.72, 0.2, 0.16, 0.46, 0.46, 0.215, 0.5
_LEAST = {True: 2.0, False: 0.01}  # extent of an axis to either side, at least: percentage points, or radius
_EDGE = 0.05  # share of an axis, added beyond both ends
_READING = (
    "On the same images and the same noise; bars: 95 % intervals. Filled marks: significantly higher or lower (5 %, "
    "{test}, with Holm's correction for all comparisons). A number in brackets lies beyond its axis. Plain smoothing "
    "is not drawn; incomplete rows are left out."
)


@styled
def gains(summary: Summary, baseline: str, radius: float | None = None) -> Figure:
    """Paired gains over `baseline`: a line of panels for each run, a panel for each sigma.

    Parameters:
        baseline: a purifier's name, as `bench.analysis.gains.paired_gains` takes it.
        radius: of the certified accuracy; None for average certified radii.

    Raises:
        ValueError: no purifier, or several, have this name; the message lists them.
    """
    rows = drawable(summary)
    paired = paired_gains(summary, baseline, radius)
    if rows.empty or paired.empty:
        return nothing(summary)
    baseline = rows_called(summary.table, baseline)["name"].iloc[0]
    table = rows[["run", "cell", "family", "marker"]].merge(paired, on=["run", "cell"], sort=False)
    table = table[table["family"] != "none"]
    table[["gain", "gain_low", "gain_high"]] *= 1 if radius is None else 100
    runs, sigmas = list(dict.fromkeys(table["run"])), sorted(table["sigma"].unique())
    named = {run: list(dict.fromkeys(part["name"])) for run, part in table.groupby("run", sort=False)}
    heights = {run: ROW * len(names) + 0.06 for run, names in named.items()}
    metric = "Average certified radius" if radius is None else f"Certified accuracy at radius {radius:g}"
    test = "a paired bootstrap" if radius is None else "McNemar's exact test"
    page = Page(
        f"{metric}: gain over {baseline}",
        summary.title,
        [
            *(conditions(rows[rows["run"] == run]) + "." for run in runs),
            *(_READING.format(test=test), *gain_sentences(paired, baseline), *remarks(summary)),
        ],
        sum(heights.values()) + len(runs) * (HEADING_ROOM + AXIS),
        head=0.66,
    )
    width = (page.WIDTH - NAMES - RIGHT - (len(sigmas) - 1) * BETWEEN) / len(sigmas)
    top = 0.0
    for run in runs:
        of_run = table[table["run"] == run]
        ends = _span(of_run, _LEAST[radius is not None])
        if len(runs) > 1:
            page.text(page.MARGIN, page.head + top + 0.14, run, size=HEADING, weight="bold", va="baseline")
        for column, sigma in enumerate(sigmas):
            left = NAMES + column * (width + BETWEEN)
            axes = page.axes(left, top + HEADING_ROOM, width - NUMBERS, heights[run])
            axes.set_title(f"σ = {sigma:g}", loc="left", fontsize=HEADING, color=INK, pad=5)
            _draw_panel(axes, of_run[of_run["sigma"] == sigma], named[run], ends, radius is not None)
            axes.set_xlabel("percentage points" if radius is not None else "radius", labelpad=2)
            if column == 0:
                axes.set_yticks(range(len(named[run])), named[run], color=INK, fontsize=LABEL)
        top += HEADING_ROOM + heights[run] + AXIS
    return page.figure


def _span(table: pd.DataFrame, least: float) -> tuple[float, float]:
    """Both ends of an axis: around all intervals, except a few that are far from the others."""
    ends = []
    for column, sign in (("gain_low", -1), ("gain_high", 1)):
        far = sign * table[column].to_numpy()
        far = far[far > 0]  # intervals that lie at this side of zero at all
        ends.append(sign * max(least, min(far.max(), 4 * np.quantile(far, 0.7)) if len(far) else 0.0))
    room = _EDGE * (ends[1] - ends[0])
    return ends[0] - room, ends[1] + room


def _draw_panel(axes: Axes, table: pd.DataFrame, names: list[str], ends: tuple[float, float], percent: bool) -> None:
    """A mark for each row at the height of its name, and its gain as a number at the right."""
    axes.set_xlim(*ends)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_yticks(range(len(names)), [])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=SOFT, lw=0.9, zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    if table.empty:
        words = "these draws cannot certify this radius"
        axes.text(0.5, 0.5, words, transform=axes.transAxes, ha="center", color=SOFT, fontsize=LABEL)
    form = "+.1f" if percent else "+.3f"
    for row in table.to_dict("records"):
        y, look = names.index(row["name"]), FAMILIES[row["family"]]
        words, inside = format(row["gain"], form), ends[0] < row["gain"] < ends[1]
        axes.plot([row["gain_low"], row["gain_high"]], [y, y], color=look.colour, lw=1.6, alpha=0.55, zorder=3)
        clear = row["p_holm"] < 1 - CONFIDENCE
        if inside:
            mark(axes, row["gain"], y, row, hollow=not clear)
        words, weight = words if inside else f"({words})", "bold" if clear else "normal"
        place = axes.get_yaxis_transform()
        annotate(axes, words, (1, y), place, (4, 0), va="center", color=look.ink, weight=weight)
