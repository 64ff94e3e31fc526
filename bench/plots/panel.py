"""One panel of the Pareto front: a metric against a cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator, NullLocator
from scipy.optimize import isotonic_regression

from bench.plots.labels import Floats, Name, place_names
from bench.plots.style import FAINT, INK, LABEL, TEXT, Page, annotate, bar, mark, percent_tick
from bench.summary.fronts import front
from bench.summary.headline import COSTS, Metric
from bench.summary.palette import FAMILIES, PLAIN

_FADED = 0.45  # opacity of purifiers below the front
_APART = 7.5  # points between marks that would cover each other
_WIDEST = 62.0  # points over which the marks of one cost may spread
_FLOOR_WORDS = ((1.0, "right"), (0.0, "left"), (0.5, "center"))
_OF_PURIFICATION = ("nfe", "ms_purify")  # costs that leave the classifier out
_STRIP = 0.36  # inches: height of the floor's own strip below a broken axis

_Box = tuple[float, float, float, float]


def draw_panel(page: Page, box: _Box, rows: pd.DataFrame, metric: Metric, cost: str, edges: tuple[bool, bool]) -> None:
    """Draw a panel at `left, top, width, height` (inches).

    Plain smoothing is the floor where it costs nothing, that is against costs of purification alone, and where it lies
    far below all purifiers: then the axis is broken, and the floor has a strip. Elsewhere it is a point at its cost.

    Parameters:
        edges: whether the panel is at the left, and at the bottom, of the figure; only there the axes have labels.
    """
    leftmost, lowest = edges
    rows = rows[rows[metric.column].notna()]
    is_plain = rows["family"] == PLAIN
    if rows.empty:
        page.axes(*box).set_axis_off()
        return
    priced = rows if rows.loc[~is_plain, cost].isna().all() else rows[is_plain | rows[cost].notna()]
    purifiers = priced[priced["family"] != PLAIN]
    low, high = _extent(purifiers if len(purifiers) else priced, metric)
    is_far = is_plain & (low - rows[[metric.column, metric.high]].max(axis=1) > 0.45 * (high - low))
    is_floor = is_plain & (is_far | rows[cost].isna() | (cost in _OF_PURIFICATION))
    floor, points = rows[is_floor], rows[~is_floor & rows[cost].notna()].reset_index(drop=True)
    far = is_floor.any() and is_far[is_floor].all()
    if not far:
        low, high = _extent(priced, metric)
    left, top, width, height = box
    main = base = page.axes(left, top, width, height - (_STRIP + 0.07 if far else 0))
    pad = max(high - low, 0.04 if metric.percent else 0.04 * max(high, 0.5)) * 0.13
    main.set_ylim(max(low - pad, -0.25 * pad) if low >= 0 else low - pad, high + pad)
    if far:
        base = page.axes(left, top + height - _STRIP, width, _STRIP)
        _break_axis(main, base, floor, metric)
    for axes in dict.fromkeys((main, base)):
        _scale(axes, points, cost)
    main.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=2))
    if metric.percent:
        main.yaxis.set_major_formatter(percent_tick)
    main.tick_params(labelleft=leftmost, labelbottom=not far)
    if lowest:
        base.set_xlabel(COSTS[cost].axis)
    taken = [_draw_floor(base, row, metric, k) for k, (_, row) in enumerate(floor.iterrows())]
    if points.empty:
        words = "not measured" if len(rows) > len(floor) else "nothing reaches this radius"
        main.text(0.5, 0.5, words, transform=main.transAxes, ha="center", va="center", size=TEXT, color=FAINT)
        return
    _draw_points(main, base, points, floor, metric, cost, taken if base is main else [])


def _extent(rows: pd.DataFrame, metric: Metric) -> tuple[float, float]:
    """The lowest and the highest end of values and intervals."""
    values = rows[[metric.column, metric.low, metric.high]].to_numpy(float)
    return float(np.nanmin(values)), float(np.nanmax(values))


def _break_axis(main: Axes, strip: Axes, floor: pd.DataFrame, metric: Metric) -> None:
    """Prepare the floor's strip: the scale of the main axes, unless its interval needs more, and marks of the break."""
    low, high = _extent(floor, metric)
    (bottom, top), (above, below) = main.get_ylim(), (main.get_position().height, strip.get_position().height)
    span = max((top - bottom) * below / above, 1.5 * (high - low))
    strip.set_ylim((low + high - span) / 2, (low + high + span) / 2)
    strip.yaxis.set_major_locator(NullLocator())
    main.spines["bottom"].set_visible(False)
    for axes, end in ((main, 0), (strip, 1)):
        axes.plot([0], [end], transform=axes.transAxes, marker=[(-1, -0.55), (1, 0.55)], ms=6, mec=FAINT, clip_on=False)


def _scale(axes: Axes, points: pd.DataFrame, cost: str) -> None:
    """A log axis around the costs of the points, with room for names on both sides and round ticks."""
    positive = points.loc[points[cost] > 0, cost]
    least, most = (positive.min(), positive.max()) if len(positive) else (1.0, 1.0)
    free = (points[cost] <= 0).any()
    start = _zero_place(points, cost) if free else least
    decades = max(math.log10(most / start), 0.6)
    middle = math.log10(start * most) / 2
    low, high = 10 ** (middle - 1.05 * decades), 10 ** (middle + 0.88 * decades)
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    if cost == "nfe" and most <= 64:
        ticks = [2.0**k for k in range(8)]
    else:
        ticks = [step * 10.0**k for k in range(-7, 8) for step in (1, 2, 5)]
        if sum(low <= t <= high for t in ticks) > 9:
            ticks = [10.0**k for k in range(-7, 8)]
    floor = 0.99 if cost == "nfe" else start * 1.5 if free else low
    ticks = [t for t in ticks if max(low, floor) <= t <= high]
    words = [f"{t:g}" for t in ticks]
    axes.xaxis.set_major_locator(FixedLocator(([start] if free else []) + ticks))
    axes.xaxis.set_major_formatter(FixedFormatter((["0"] if free else []) + words))
    axes.xaxis.set_minor_locator(NullLocator())


def _zero_place(points: pd.DataFrame, cost: str) -> float:
    """The position of a purifier without cost (no network) on a logarithmic axis: left of all others."""
    positive = points.loc[points[cost] > 0, cost]
    return float(positive.min()) / 2.5 if len(positive) else 1.0


def _draw_floor(axes: Axes, row: pd.Series, metric: Metric, number: int) -> Floats:
    """Draw plain randomized smoothing as a level, because it purifies nothing; returns the box of its text.

    The floors of several runs may lie close together: by their `number`, their texts are at different ends.
    """
    at, side = _FLOOR_WORDS[number % len(_FLOOR_WORDS)]
    look, value = FAMILIES[PLAIN], row[metric.column]
    if math.isfinite(row[metric.low]):
        axes.axhspan(row[metric.low], row[metric.high], color=look.colour, alpha=0.17, lw=0, zorder=1)
    axes.axhline(value, color=look.colour, lw=1.0, zorder=1.5)
    words, transform, shift = f"{row['name']}: {metric.words(value)}", axes.get_yaxis_transform(), (3 - 6 * at, 2.5)
    text = annotate(axes, words, (at, value), transform, shift, ha=side, size=LABEL, color=look.ink, zorder=6)
    return np.array(text.get_window_extent().extents)


def _draw_points(
    axes: Axes, base: Axes, points: pd.DataFrame, floor: pd.DataFrame, metric: Metric, cost: str, taken: list[Floats]
) -> None:
    """Draw the points with their intervals, the front and the names; `base` has the axis of costs."""
    point = axes.figure.dpi / 72
    best = _on_front(points, floor, metric, cost)
    costs = points[cost].where(points[cost] > 0, _zero_place(points, cost)).to_numpy(float)
    x = _side_by_side(axes.transData.transform([(c, 0) for c in costs])[:, 0], point)
    names, bars = [], []
    for i, row in enumerate(points.to_dict("records")):
        look, strong = FAMILIES[row["family"]], i in best or row["imported"]
        low, high = (row[c] if math.isfinite(row[c]) else row[metric.column] for c in (metric.low, metric.high))
        ends = [axes.transData.transform((costs[i], value))[1] for value in (low, row[metric.column], high)]
        to_axes = axes.transAxes.inverted().transform
        (at, down), (_, y), (_, up) = (to_axes((x[i], end)) for end in ends)
        opacity, order = (1.0, 5) if strong else (_FADED, 4)
        bar(axes, [at, at], [down, up], look.colour, 1.2, alpha=0.8 * opacity, transform=axes.transAxes)
        mark(axes, at, y, row, row["imported"], alpha=opacity, zorder=order, transform=axes.transAxes)
        tick: Any = {"marker": [(0, 0), (0, 1)], "ms": 9, "mec": look.colour, "mew": 1.0, "alpha": min(0.9, opacity)}
        base.plot([costs[i]], [0], transform=base.get_xaxis_transform(), zorder=4, **tick)
        bars.append([(x[i], ends[0]), (x[i], ends[2])])
        names.append(Name(x[i], ends[1], row["words"], look.ink, 1.0 if strong else 0.82))
    line = _draw_front(axes, points, best, x, metric, floor)
    place_names(axes, names, np.array(bars), line, taken)


def _on_front(points: pd.DataFrame, floor: pd.DataFrame, metric: Metric, cost: str) -> list[int]:
    """Positions of the points on the front, cheapest first.

    Plain smoothing competes at cost 0. Rows of other images than most do not compete. Average certified radii of
    different certifiers do not compare: they have no front.
    """
    rivals, floor = points[points["competes"]], floor[floor["competes"]]
    if metric.column == "acr" and rivals["rule"].nunique() > 1:
        return []
    compared = pd.concat([floor.assign(**{cost: 0.0}), rivals])
    positions = [-1] * len(floor) + list(rivals.index)
    kept = front(list(compared[cost]), list(compared[metric.column]))
    return [positions[i] for i in kept if positions[i] >= 0]


def _side_by_side(x: Floats, point: float) -> Floats:
    """Move marks apart that would cover each other, by the least squared shifts that keep their order (in pixels)."""
    order = np.argsort(x, kind="stable")
    crowd = max(int((np.abs(x - at) < _APART * point).sum()) for at in x)
    ranks = np.arange(len(x)) * min(_APART, _WIDEST / crowd) * point
    out = np.empty_like(x)
    out[order] = isotonic_regression(x[order] - ranks).x + ranks
    return out


def _draw_front(
    axes: Axes, points: pd.DataFrame, best: Sequence[int], x: Floats, metric: Metric, floor: pd.DataFrame
) -> Floats:
    """Draw the front as steps from the floor to the right edge; returns its segments in pixels."""
    if not best:
        return np.zeros((0, 2, 2))
    frame = axes.get_window_extent()
    start = axes.transData.transform((1, floor[metric.column].max()))[1] if len(floor) else frame.y0
    last, corners = max(start, frame.y0), []
    for i in best:
        y = axes.transData.transform((1, points[metric.column][i]))[1]
        corners += [(x[i], last), (x[i], y)]
        last = y
    path = np.array([*corners, (frame.x1, last)])
    steps = axes.transAxes.inverted().transform(path).T
    axes.plot(*steps, transform=axes.transAxes, color=INK, lw=1.0, alpha=0.5, zorder=2)
    return np.stack([path[:-1], path[1:]], 1)
