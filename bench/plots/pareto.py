"""The efficiency-effectiveness front: certified accuracy and average certified radius against what a purifier costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.notes import rule_name, rules_of
from bench.plots.panel import COSTS, Edges, Metric, draw_panel
from bench.plots.rows import conditions, drawable, nothing, remarks
from bench.plots.style import HEADING, INK, SMALL, Page, family, family_handles, styled
from bench.summary import Summary

MOST_NAMES = 18  # more points than this carry numbers, and a key below the panels gives their names
KEYS_PER_LINE, KEY_LINE = 5, 0.165
READING = (
    "The line is the front: nothing as cheap does better. What lies below it is faded. Marks that would cover each "
    "other stand side by side; the ticks at the bottom are the costs as measured, on a logarithmic axis. Bars and "
    "bands: 95 % intervals (Wilson for accuracy, bootstrap over images for the ACR)."
)


def accuracy(radius: float, sigma: float) -> Metric:
    """Certified accuracy at a radius, as a metric."""
    meaning = "correct, not abstained" if radius == 0 else "= σ" if radius == sigma else f"= {radius / sigma:.3g} σ"
    heading = f"Certified accuracy at radius {radius:g} ({meaning})"
    return Metric(f"acc@{radius:g}", f"acc_low@{radius:g}", f"acc_high@{radius:g}", heading, True, radius)


def average_radius(rows: pd.DataFrame) -> Metric:
    """The average certified radius as a metric, named after its certifier: those of different ones do not compare."""
    rules = rules_of(rows)
    made_by = f"by {rule_name(rules[0])}" if len(rules) == 1 else "by several certifiers, which do not compare"
    return Metric("acr", "acr_low", "acr_high", f"Average certified radius (ACR) {made_by}", False)


def metrics(rows: pd.DataFrame, radii: Sequence[float], sigma: float) -> list[Metric]:
    """Accuracy at radius 0, near half of sigma and near sigma, where some row can reach them; and the ACR."""
    reach = rows["largest"].max()
    reachable = [r for r in radii if r <= reach or not math.isfinite(reach)]
    positive = [r for r in reachable if r > 0]
    chosen = {min(positive, key=lambda r: abs(r - share * sigma)) for share in (0.5, 1.0)} if positive else set()
    chosen |= {r for r in reachable if r == 0}
    return [*(accuracy(r, sigma) for r in sorted(chosen)), average_radius(rows)]


def separation(rows: pd.DataFrame, metric: Metric) -> float:
    """The share of pairs of purifiers whose intervals do not meet."""
    compared = rows[(rows["family"] != "none") & ~rows["imported"]]
    spans = list(zip(compared[metric.low], compared[metric.high], strict=True))
    apart = [a[0] > b[1] or b[0] > a[1] for a, b in combinations(spans, 2)]
    return sum(apart) / len(apart) if apart else 0.0


def headline(rows: pd.DataFrame, radii: Sequence[float]) -> tuple[float, list[Metric]]:
    """The sigma and the radius that tell the purifiers apart best; of equals, the largest sigma and radius."""
    acr = average_radius(rows)
    sigma = max(sorted(rows["sigma"].unique(), reverse=True), key=lambda s: separation(rows[rows["sigma"] == s], acr))
    here = rows[rows["sigma"] == sigma]
    accuracies = metrics(here, radii, sigma)[:-1]
    away = [m for m in reversed(accuracies) if m.radius > 0] or accuracies
    return float(sigma), [*([max(away, key=lambda m: separation(here, m))] if away else []), average_radius(here)]


@styled
def pareto(summary: Summary) -> Figure:
    """The picture to look at first: accuracy and ACR beside cost, at the sigma that separates the purifiers most."""
    rows = drawable(summary)
    if rows.empty:
        return nothing(summary)
    sigma, shown = headline(rows, summary.radii)
    others = [f"{s:g}" for s in sorted(rows["sigma"].unique()) if s != sigma]
    why = (
        f"Of the levels of noise (also σ = {', '.join(others)}) and of the radii, those at which most pairs of "
        "purifiers have intervals that do not meet."
    )
    return draw(summary, rows[rows["sigma"] == sigma], sigma, shown, 2.7, [why] if others else [])


@styled
def pareto_at(summary: Summary, sigma: float) -> Figure:
    """Everything at one sigma: accuracy at radius 0, near half of sigma and near sigma, and the ACR, beside cost."""
    rows = drawable(summary)
    here = rows[rows["sigma"] == sigma] if len(rows) else rows
    if here.empty:
        return nothing(summary)
    return draw(summary, here, sigma, metrics(here, summary.radii, sigma), 2.5)


def draw(
    summary: Summary,
    rows: pd.DataFrame,
    sigma: float,
    shown: Sequence[Metric],
    height: float,
    footer: Sequence[str] = (),
) -> Figure:
    """A row of panels for each metric, a column for each cost."""
    marks = rows["family"] != "none"
    numbered = marks.sum() > MOST_NAMES
    rows = rows.assign(words=marks.cumsum().astype(str) if numbered else rows["name"])
    keys = rows[marks].to_dict("records") if numbered else []
    left, between, right, heading, gap, axis = 0.62, 0.3, 0.16, 0.28, 0.32, 0.5
    lines = math.ceil(len(keys) / KEYS_PER_LINE)
    panels = len(shown) * (heading + height + gap) - gap + axis
    page = Page(
        f"What certified robustness costs at σ = {sigma:g}",
        summary.title,
        [conditions(rows) + ".", READING, *footer, *remarks(summary)],
        panels + lines * KEY_LINE + (0.15 if lines else 0),
    )
    page.legend([*family_handles(rows["family"]), Line2D([], [], color=INK, alpha=0.5, lw=1.0, label="front")])
    width = (page.width - left - between - right) / 2
    for i, metric in enumerate(shown):
        top = i * (heading + height + gap)
        page.text(page.MARGIN, page.head + top + 0.17, metric.heading, size=HEADING, weight="bold", va="baseline")
        here = rows[(rows["largest"] >= metric.radius) | rows["largest"].isna()]
        for j, cost in enumerate(COSTS):
            box = (left + j * (width + between), top + heading, width, height)
            draw_panel(page, box, here, metric, cost, Edges(j == 0, i == len(shown) - 1))
    for n, row in enumerate(keys):
        column, line = divmod(n, lines)
        x = page.MARGIN + column * (page.width - 2 * page.MARGIN) / KEYS_PER_LINE
        words, ink = f"{row['words']}  {row['name']}", family(row["family"]).ink
        page.text(x, page.head + panels + 0.1 + line * KEY_LINE, words, size=SMALL, color=ink, va="top")
    return page.figure
