"""What each purifier gains over one of them, image by image: a mark and an interval beside a line at nothing gained."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.analysis.gains import paired_gains
from bench.plots.style import HEADING, INK, LABEL, SMALL, SOFT, Page, family, nothing, remarks, styled
from bench.summary.names import short_names
from bench.summary.rows import conditions, drawable
from bench.summary.statistics import CONFIDENCE
from bench.summary.summary import Summary

NAMES, BETWEEN, RIGHT, NUMBERS, HEADING_ROOM, ROW, AXIS = 1.72, 0.2, 0.16, 0.46, 0.46, 0.215, 0.5
LEAST = {True: 2.0, False: 0.01}  # that an axis reaches to either side: percent points, or radius
EDGE = 0.05  # of an axis, beyond the ends
READING = (
    "On the same images and the same noise; intervals at 95 %. Filled: told from nothing by {test}, after Holm's "
    "correction for every comparison. A number in brackets lies beyond its axis. Plain smoothing and "
    "unfinished rows are left out."
)


@styled
def gains(summary: Summary, baseline: str, radius: float | None = None) -> Figure:
    """Paired gains over `baseline`, a line of panels for each run, a panel for each sigma.

    Parameters:
        baseline: as `bench.analysis.gains.paired_gains` takes it, and with its errors.
        radius: of the certified accuracy; None for average certified radii.
    """
    rows = drawable(summary)
    found = paired_gains(summary, baseline, radius)
    if rows.empty or found.empty:
        return nothing(summary)
    looks = rows[["run", "sigma", "label", "family", "marker"]]
    table = looks.merge(found, on=["run", "sigma", "label"], sort=False)
    table = table[table["family"] != "none"]
    scale = 1 if radius is None else 100
    table["name"] = table["label"].map(short_names(summary.table))
    table[["gain", "gain_low", "gain_high"]] *= scale
    runs, sigmas = list(dict.fromkeys(table["run"])), sorted(table["sigma"].unique())
    named = {run: list(dict.fromkeys(part["name"])) for run, part in table.groupby("run", sort=False)}
    heights = {run: ROW * len(names) + 0.06 for run, names in named.items()}
    what = "Average certified radius" if radius is None else f"Certified accuracy at radius {radius:g}"
    test = "a paired bootstrap" if radius is None else "McNemar's exact test"
    page = Page(
        f"{what}: gained over {baseline}",
        summary.title,
        [conditions(rows[rows["run"] == run]) for run in runs] + [READING.format(test=test), *remarks(summary)],
        sum(heights.values()) + len(runs) * (HEADING_ROOM + AXIS),
        head=0.66,
    )
    width = (page.width - NAMES - RIGHT - (len(sigmas) - 1) * BETWEEN) / len(sigmas)
    top = 0.0
    for run in runs:
        mine = table[table["run"] == run]
        ends = span(mine, LEAST[radius is not None])
        if len(runs) > 1:
            page.text(page.MARGIN, page.head + top + 0.14, run, size=HEADING, weight="bold", va="baseline")
        for column, sigma in enumerate(sigmas):
            left = NAMES + column * (width + BETWEEN)
            axes = page.axes(left, top + HEADING_ROOM, width - NUMBERS, heights[run])
            axes.set_title(f"σ = {sigma:g}", loc="left", fontsize=HEADING, color=INK, pad=5)
            draw_panel(axes, mine[mine["sigma"] == sigma], named[run], ends, radius is not None)
            axes.set_xlabel("percent points" if radius is not None else "radius", labelpad=2)
            if column == 0:
                axes.set_yticks(range(len(named[run])), named[run], color=INK, fontsize=LABEL)
        top += HEADING_ROOM + heights[run] + AXIS
    return page.figure


def span(table: pd.DataFrame, least: float) -> tuple[float, float]:
    """Both ends of an axis: around all intervals, but not around those of a few far off the others."""
    ends = []
    for column, sign in (("gain_low", -1), ("gain_high", 1)):
        far = sign * table[column].to_numpy()
        far = far[far > 0]  # those that reach to this side at all
        ends.append(sign * max(least, min(far.max(), 4 * np.quantile(far, 0.7)) if len(far) else 0.0))
    room = EDGE * (ends[1] - ends[0])
    return ends[0] - room, ends[1] + room


def draw_panel(axes: Axes, table: pd.DataFrame, names: list[str], ends: tuple[float, float], percent: bool) -> None:
    """A mark for each row at its name's height, and its gain in words at the right."""
    axes.set_xlim(*ends)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(length=0)
    axes.set_yticks(range(len(names)), [])
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)
    axes.axvline(0, color=SOFT, lw=0.9, zorder=2)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}" if value else "0"))
    if table.empty:
        axes.text(0.5, 0.5, "beyond these draws", transform=axes.transAxes, ha="center", color=SOFT, fontsize=LABEL)
    form = "+.1f" if percent else "+.3f"
    for row in table.to_dict("records"):
        y, look = names.index(row["name"]), family(str(row["family"]))
        words, inside = format(row["gain"], form), ends[0] < row["gain"] < ends[1]
        axes.plot([row["gain_low"], row["gain_high"]], [y, y], color=look.colour, lw=1.6, alpha=0.55, zorder=3)
        clear = row["p_holm"] < 1 - CONFIDENCE
        if inside:
            fill, edge = (look.colour, "white") if clear else ("white", look.colour)
            axes.plot(row["gain"], y, ls="", marker=row["marker"], ms=6.4, mfc=fill, mec=edge, mew=1.0, zorder=5)
        axes.annotate(
            words if inside else f"({words})",
            (1, y),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=look.ink,
            weight="bold" if clear else "normal",
        )
