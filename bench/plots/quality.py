"""Certified accuracy against the distances of purified to clean images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from bench.plots.labels import Name, place_names
from bench.plots.style import Page, bar, family_handles, mark, nothing, percent_tick, remarks, styled
from bench.store.quality import KINDS, Metrics, Value
from bench.summary import Summary
from bench.summary.headline import Metric, headline
from bench.summary.palette import FAMILIES, OWN_CLASSIFIER, PLAIN
from bench.summary.rows import conditions, drawable

_ACROSS = 2
LEFT, BETWEEN, RIGHT, HEADING_ROOM, HEIGHT, AXIS = 0.62, 0.55, 0.16, 0.28, 2.5, 0.62
_MOST_TICKS = 8
_STEPS = (
    (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9),
    (1, 1.5, 2, 3, 4, 5, 7),
    (1, 2, 3, 5),
    (1, 2, 5),
    (1, 3),
    (1,),
)
_TRAINED = "Hollow: a network of this purifier was trained to lower this distance. "
_READING = (
    "Logarithmic axes; lower distances are better. Bars: 95 % intervals (bootstrap over images, Wilson for accuracy); "
    "distances of whole sets have none. Plain smoothing purifies nothing and is left out."
)


@styled
def quality(summary: Summary, metrics: Metrics, run: str) -> Figure:
    """Certified accuracy against each distance, at the sigma and radius that separate the purifiers best.

    Parameters:
        metrics: of the run with the name `run` in the summary.
    """
    rows = drawable(summary)
    by_cell = {cell.cell: cell for cell in metrics.cells}
    if len(rows):
        rows = rows[(rows["run"] == run) & ~rows["family"].isin((PLAIN, OWN_CLASSIFIER)) & rows["cell"].isin(by_cell)]
    if rows.empty:
        return nothing(summary)
    sigma, shown = headline(rows, summary.radii)
    metric = shown[0]
    here = rows[(rows["sigma"] == sigma) & rows[metric.column].notna()]
    cells = [by_cell[cell] for cell in here["cell"]]
    names = [name for name in KINDS if any(name in cell.values for cell in cells)]
    lines = math.ceil(len(names) / _ACROSS)
    models = [f"{KINDS[name].words}; model: {metrics.networks[name].name}." for name in names]
    trained = _TRAINED if any(cell.trained_on for cell in cells) else ""
    page = Page(
        f"{metric.heading.partition(' (')[0]} and the quality of purification, σ = {sigma:g}",
        summary.title,
        [
            f"{conditions(here)}. Distances: {metrics.looked_at}.",
            trained + _READING,
            *models,
            *remarks(summary),
        ],
        lines * (HEADING_ROOM + HEIGHT + AXIS),
    )
    page.legend(family_handles(here["family"]))
    width = (page.WIDTH - LEFT - RIGHT - (_ACROSS - 1) * BETWEEN) / _ACROSS
    for i, name in enumerate(names):
        line, column = divmod(i, _ACROSS)
        left, top = LEFT + column * (width + BETWEEN), line * (HEADING_ROOM + HEIGHT + AXIS)
        heading = KINDS[name].title[0].upper() + KINDS[name].title[1:]
        page.heading(left, top, heading)
        axes = page.axes(left, top + HEADING_ROOM, width, HEIGHT)
        axes.set_xlabel(", ".join(filter(None, (KINDS[name].unit, "lower is better"))))
        measured = [
            (row, cell.values[name], name in cell.trained_on)
            for row, cell in zip(here.to_dict("records"), cells, strict=True)
            if name in cell.values
        ]
        _draw_marks(axes, measured, metric)
    return page.figure


def _draw_marks(axes: Axes, measured: Sequence[tuple[dict[str, Any], Value, bool]], metric: Metric) -> None:
    """A mark with both of its intervals and its name for each purifier."""
    axes.set_xscale("log")
    spans = np.array([[v.value if end is None else end for end in (v.low, v.high)] for _, v, _ in measured])
    high = spans.max() or 1.0
    low = spans[spans > 0].min() if (spans > 0).any() else high
    room = 1.08 * (high / low) ** 0.16
    axes.set_xlim(low / room, high * room)
    spans = np.maximum(spans, low / room)  # a logarithmic axis cannot show 0
    ends = np.array([[row[column] for column in (metric.low, metric.high)] for row, _, _ in measured], float)
    pad = max(ends.max() - ends.min(), 0.04) * 0.1
    axes.set_ylim(ends.min() - pad, ends.max() + pad)
    axes.xaxis.set_major_locator(FixedLocator(_ticks(*axes.get_xlim())))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    if metric.percent:
        axes.yaxis.set_major_formatter(percent_tick)
    names, bars = [], []
    for (row, value, trained), (left, right), (bottom, top) in zip(measured, spans, ends, strict=True):
        look, y, x = FAMILIES[row["family"]], row[metric.column], max(value.value, low / room)
        for x_, y_ in (([left, right], [y, y]), ([x, x], [bottom, top])):
            bar(axes, x_, y_, look.colour, 1.1, alpha=0.5)
            bars.append(axes.transData.transform(list(zip(x_, y_, strict=True))))
        mark(axes, x, y, row, hollow=trained)
        at = axes.transData.transform((x, y))
        names.append(Name(float(at[0]), float(at[1]), str(row["name"]), look.ink))
    place_names(axes, names, np.array(bars), np.zeros((0, 2, 2)))


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two ends, at most `_MOST_TICKS`, as fine as possible: axes may be shorter than a decade."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    between = [[s * 10.0**k for k in powers for s in steps if low <= s * 10.0**k <= high] for steps in _STEPS]
    return next((values for values in between if len(values) <= _MOST_TICKS), between[-1][::2])
