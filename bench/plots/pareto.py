"""The Pareto front: certified accuracy and average certified radius against the cost of purification.

The main picture answers what a user asks, at a radius and not at a sigma: each purifier stands at its best sigma.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.plots.panel import draw_panel
from bench.plots.style import INK, SMALL, Page, family_handles, nothing, remarks, styled
from bench.summary import Summary
from bench.summary.headline import Metric, at_best_sigma, decisive_radii, headline, metrics
from bench.summary.notes import shared_times
from bench.summary.palette import FAMILIES, OWN_CLASSIFIER, PLAIN
from bench.summary.rows import conditions, drawable

# Costs of one picture: evaluations beside the time of purifier and classifier, because no vote is free at NFE 0.
# Operations take the place of times that do not compare.
USUAL, VOTE = ("nfe", "ms_joint"), ("gflops", "ms_joint")
_MOST_NAMES = 15  # more points than this have numbers, and a key below the panels gives their names
KEYS_PER_LINE, KEY_LINE = 5, 0.165
_READING = (
    "Line: the Pareto front; purifiers below it are faded. Marks that would cover each other stand side by side; the "
    "ticks at the bottom show the measured costs, on a logarithmic axis. Bars and bands: 95 % intervals (Wilson for "
    "accuracy, bootstrap over images for the ACR)."
)
_NOT_FREE = "NFE counts the networks of the purifier only: at NFE 0 the classifier alone does the work, see its {}."

_CHOSEN = (
    "σ was chosen for each purifier and radius on these images, which favours it a little: `bench tables` has the "
    "reading by halves."
)


@styled
def pareto(summary: Summary, costs: tuple[str, str] = USUAL) -> Figure:
    """The main picture: accuracy against cost at two radii, each purifier at its best sigma for the radius.

    Of one sigma: accuracy and ACR at the radius that separates the purifiers best.

    Parameters:
        costs: columns of the summary's table: `USUAL`, or `VOTE`, both of a whole vote.
    """
    rows = drawable(summary)
    if rows.empty:
        return nothing(summary)
    shown = [at_best_sigma(rows, radius) for radius in decisive_radii(rows, summary.radii)]
    if rows["sigma"].nunique() == 1 or not shown:
        sigma, one = headline(rows, summary.radii)
        here = rows[rows["sigma"] == sigma]
        return _draw(summary, f"σ = {sigma:g}", [(metric, here) for metric in one], 2.7, costs)
    return _draw(summary, "each purifier at its best σ", shown, 2.7, costs, [_CHOSEN])


@styled
def pareto_at(summary: Summary, sigma: float) -> Figure:
    """Accuracy at radius 0, near half of sigma and near sigma, and the ACR, against cost, at one sigma."""
    rows = drawable(summary)
    here = rows[rows["sigma"] == sigma] if len(rows) else rows
    if here.empty:
        return nothing(summary)
    return _draw(summary, f"σ = {sigma:g}", [(m, here) for m in metrics(here, summary.radii, sigma)], 2.5, USUAL)


def _draw(
    summary: Summary,
    where: str,
    shown: Sequence[tuple[Metric, pd.DataFrame]],
    height: float,
    costs: tuple[str, ...],
    footer: Sequence[str] = (),
) -> Figure:
    """A row of panels for each metric and the rows that it shows, a column for each cost."""
    rows = pd.concat([part for _, part in shown])
    if summary.untimed and rows["gflops"].notna().all():
        costs = tuple("gflops" if cost == "ms_joint" else cost for cost in costs)
    marked = rows[rows["family"] != PLAIN].drop_duplicates("name")
    numbers = {name: str(n) for n, name in enumerate(marked["name"], 1)} if len(marked) > _MOST_NAMES else {}
    keys = marked.to_dict("records") if numbers else []
    left, between, right, heading, gap, axis = 0.62, 0.3, 0.16, 0.28, 0.32, 0.5
    lines = math.ceil(len(keys) / KEYS_PER_LINE)
    panels = len(shown) * (heading + height + gap) - gap + axis
    not_free = (
        [_NOT_FREE.format("time" if "ms_joint" in costs else "operations")]
        if OWN_CLASSIFIER in set(rows["family"]) and "nfe" in costs
        else []
    )
    page = Page(
        f"Certified robustness against cost, {where}",
        summary.title,
        [
            conditions(rows) + ".",
            _READING,
            *not_free,
            *footer,
            *filter(None, [shared_times(rows) if "ms_joint" in costs else ""]),
            *remarks(summary),
        ],
        panels + lines * KEY_LINE + (0.15 if lines else 0),
    )
    page.legend([*family_handles(rows["family"]), Line2D([], [], color=INK, alpha=0.5, lw=1.0, label="front")])
    width = (page.WIDTH - left - between - right) / 2
    for i, (metric, part) in enumerate(shown):
        away = part.get("away", "")
        words = part["name"].map(lambda name: numbers.get(name, name)) + away
        part = part.assign(words=words, name=part["name"] + away)
        top = i * (heading + height + gap)
        page.heading(page.MARGIN, top, metric.heading)
        for j, cost in enumerate(costs):
            box = (left + j * (width + between), top + heading, width, height)
            draw_panel(page, box, part, metric, cost, (j == 0, i == len(shown) - 1))
    for n, row in enumerate(keys):
        column, line = divmod(n, lines)
        x = page.MARGIN + column * (page.WIDTH - 2 * page.MARGIN) / KEYS_PER_LINE
        words, ink = f"{numbers[row['name']]}  {row['name']}", FAMILIES[row["family"]].ink
        page.text(x, page.head + panels + 0.1 + line * KEY_LINE, words, size=SMALL, color=ink, va="top")
    return page.figure
