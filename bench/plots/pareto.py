"""The Pareto front: certified accuracy and average certified radius against the cost of purification."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.plots.panel import COSTS, draw_panel
from bench.plots.style import INK, SMALL, Page, family_handles, nothing, remarks, styled
from bench.summary import Summary
from bench.summary.headline import Metric, headline, metrics
from bench.summary.palette import FAMILIES
from bench.summary.rows import conditions, drawable

_MOST_NAMES = 18  # more points than this have numbers, and a key below the panels gives their names
KEYS_PER_LINE, KEY_LINE = 5, 0.165
_READING = (
    "Line: the Pareto front; purifiers below it are faded. Marks that would cover each other stand side by side; the "
    "ticks at the bottom show the measured costs, on a logarithmic axis. Bars and bands: 95 % intervals (Wilson for "
    "accuracy, bootstrap over images for the ACR)."
)


@styled
def pareto(summary: Summary) -> Figure:
    """The main picture: accuracy and ACR against cost, at the sigma and radius that separate the purifiers best."""
    rows = drawable(summary)
    if rows.empty:
        return nothing(summary)
    sigma, shown = headline(rows, summary.radii)
    others = [f"{s:g}" for s in sorted(rows["sigma"].unique()) if s != sigma]
    why = (
        f"Shown are the σ (others: {', '.join(others)}) and the radius at which the most pairs of purifiers have "
        "intervals that do not overlap."
    )
    return _draw(summary, rows[rows["sigma"] == sigma], sigma, shown, 2.7, [why] if others else [])


@styled
def pareto_at(summary: Summary, sigma: float) -> Figure:
    """Accuracy at radius 0, near half of sigma and near sigma, and the ACR, against cost, at one sigma."""
    rows = drawable(summary)
    here = rows[rows["sigma"] == sigma] if len(rows) else rows
    if here.empty:
        return nothing(summary)
    return _draw(summary, here, sigma, metrics(here, summary.radii, sigma), 2.5)


def _draw(
    summary: Summary,
    rows: pd.DataFrame,
    sigma: float,
    shown: Sequence[Metric],
    height: float,
    footer: Sequence[str] = (),
) -> Figure:
    """A row of panels for each metric, a column for each cost."""
    marks = rows["family"] != "none"
    numbered = marks.sum() > _MOST_NAMES
    rows = rows.assign(words=marks.cumsum().astype(str) if numbered else rows["name"])
    keys = rows[marks].to_dict("records") if numbered else []
    left, between, right, heading, gap, axis = 0.62, 0.3, 0.16, 0.28, 0.32, 0.5
    lines = math.ceil(len(keys) / KEYS_PER_LINE)
    panels = len(shown) * (heading + height + gap) - gap + axis
    page = Page(
        f"Certified robustness against cost, σ = {sigma:g}",
        summary.title,
        [conditions(rows) + ".", _READING, *footer, *remarks(summary)],
        panels + lines * KEY_LINE + (0.15 if lines else 0),
    )
    page.legend([*family_handles(rows["family"]), Line2D([], [], color=INK, alpha=0.5, lw=1.0, label="front")])
    width = (page.WIDTH - left - between - right) / 2
    for i, metric in enumerate(shown):
        top = i * (heading + height + gap)
        page.heading(page.MARGIN, top, metric.heading)
        for j, cost in enumerate(COSTS):
            box = (left + j * (width + between), top + heading, width, height)
            draw_panel(page, box, rows, metric, cost, (j == 0, i == len(shown) - 1))
    for n, row in enumerate(keys):
        column, line = divmod(n, lines)
        x = page.MARGIN + column * (page.WIDTH - 2 * page.MARGIN) / KEYS_PER_LINE
        words, ink = f"{row['words']}  {row['name']}", FAMILIES[row["family"]].ink
        page.text(x, page.head + panels + 0.1 + line * KEY_LINE, words, size=SMALL, color=ink, va="top")
    return page.figure
