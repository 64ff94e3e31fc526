"""Names beside points without overlaps: each name takes the candidate place of the lowest cost.

The library adjustText was tried in place of this: its forces left names on marks, on intervals and on other names, and
names beside the wrong mark. All geometry is in pixels; boxes are `left, bottom, right, top`; segments are `[2,2]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from bench.plots.style import FAINT, LABEL

Floats = NDArray[np.float64]

_ROUNDS = 6
_DISTANCES = (6.0, 10.0, 16.0, 24.0, 34.0, 46.0, 60.0, 76.0)  # points, from a mark to its name
_ANGLES = np.radians(np.arange(0, 360, 15))
_ATTACHED = 11.0  # points: a name that is nearer needs no line to its mark
_MARK = 4.0  # points: half a side of the square around a mark

# Costs of a place, chosen by eye: those of hiding something under the name, and those of its line to the mark.
PER_POINT, NEEDS_LINE, OUTSIDE, MISLEADS = 0.4, 3.0, 1e6, 9.0
HIDES_NAME, HIDES_MARK, HIDES_BAR, HIDES_FRONT = 60.0, 40.0, 11.0, 7.0
CROSSES_NAME, CROSSES_MARK, CROSSES_LINE = 30.0, 12.0, 14.0


@dataclass(frozen=True)
class Name:
    """Words for the point at `x, y` (pixels), in a colour."""

    x: float
    y: float
    words: str
    colour: str
    alpha: float = 1.0


def place_names(axes: Axes, names: Sequence[Name], bars: Floats, front: Floats, taken: Sequence[Floats] = ()) -> None:
    """Write names beside their points, and draw a thin line to those that are not next to their point.

    Names choose their places one after the other, crowded ones first, and again until no name changes its place.

    Parameters:
        bars, front: the segments of the intervals, and of the front, `[n,2,2]`.
        taken: boxes of other words.
    """
    point = axes.figure.dpi / 72
    style: dict[str, Any] = {"transform": axes.transAxes, "size": LABEL, "ha": "center", "va": "center", "zorder": 6}
    texts = [axes.text(0.5, 0.5, name.words, color=name.colour, alpha=name.alpha, **style) for name in names]
    extents = [text.get_window_extent() for text in texts]
    marks = np.array([(name.x, name.y) for name in names]).reshape(-1, 2)
    places = [_candidates(mark, (box.width, box.height), point) for mark, box in zip(marks, extents, strict=True)]
    frame = axes.get_window_extent()
    inside = np.array([frame.x0 + point, frame.y0 + point, frame.x1, frame.y1 + 4 * point])
    words = np.array(taken).reshape(-1, 4)
    fixed = [
        _fixed_cost(marks, i, boxes, bars, front, words, point)
        + OUTSIDE * ((boxes[:, :2] < inside[:2]) | (boxes[:, 2:] > inside[2:])).any(1)
        for i, boxes in enumerate(places)
    ]
    chosen = [int(np.argmin(cost)) for cost in fixed]
    crowd = [(np.hypot(*(marks - mark).T) < 60 * point).sum() for mark in marks]
    order = sorted(range(len(names)), key=lambda i: -crowd[i])
    for turn in range(_ROUNDS):
        before = list(chosen)
        for k, i in enumerate(order):
            others = [j for j in (order if turn else order[:k]) if j != i]
            boxes = np.array([places[j][chosen[j]] for j in others]).reshape(-1, 4)
            chosen[i] = int(np.argmin(fixed[i] + _rivals_cost(marks[i], places[i], marks[others], boxes, point)))
        if turn and before == chosen:
            break
    to_axes = axes.transAxes.inverted().transform
    for text, mark, boxes, i in zip(texts, marks, places, chosen, strict=True):
        text.set_position(tuple(to_axes((boxes[i, :2] + boxes[i, 2:]) / 2)))
        text.set_bbox({"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.4})
        end = _nearest(boxes[i], mark)
        gap = np.hypot(*(end - mark))
        if gap > _ATTACHED * point:
            line = to_axes([mark + (end - mark) * 3.5 * point / gap, end]).T
            axes.plot(*line, transform=axes.transAxes, color=FAINT, lw=0.6, zorder=2.5, solid_capstyle="round")


def _candidates(mark: Floats, size: tuple[float, float], point: float) -> Floats:
    """Boxes of a name around its mark, `[n,4]`: at each distance and angle the box touches the circle."""
    width, height = size
    distance, angle = (grid.ravel() for grid in np.meshgrid(np.array(_DISTANCES) * point, _ANGLES, indexing="ij"))
    along, up = np.cos(angle), np.sin(angle)
    x = mark[0] + distance * along + np.sign(np.round(along, 6)) * width / 2 * np.minimum(1, np.abs(along) * 1.8)
    y = mark[1] + distance * up + up * height / 2
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)


def _fixed_cost(
    marks: Floats, i: int, boxes: Floats, bars: Floats, front: Floats, taken: Floats, point: float
) -> Floats:
    """The cost of each place of the name of mark `i` that does not depend on other names, `[n]`."""
    distance = np.hypot(*(_nearest(boxes, marks[i]) - marks[i]).T)
    attached = distance <= _ATTACHED * point
    squares = np.concatenate([marks - _MARK * point, marks + _MARK * point], 1)
    others = np.delete(marks, i, axis=0)
    gaps = np.clip(others, boxes[:, None, :2], boxes[:, None, 2:]) - others
    nearer = (np.hypot(gaps[..., 0], gaps[..., 1]) < distance[:, None]).any(1)
    wide = boxes + np.array([-2, 0, 2, 0]) * point
    lines = _leaders(marks[i], boxes, point)
    return np.asarray(
        PER_POINT * distance / point
        + np.where(attached, MISLEADS * nearer, NEEDS_LINE)  # a name without a line belongs to the nearest mark
        + HIDES_MARK * _overlaps(boxes, squares).sum(1)
        + HIDES_BAR * _hits(bars, wide).sum(0)
        + HIDES_FRONT * _hits(front, wide).sum(0)
        + HIDES_NAME * _overlaps(boxes, taken).sum(1)
        + CROSSES_MARK * _hits(lines, np.delete(squares, i, axis=0)).sum(1)
        + CROSSES_NAME * _hits(lines, taken).sum(1)
    )


def _rivals_cost(mark: Floats, boxes: Floats, marks: Floats, others: Floats, point: float) -> Floats:
    """The cost of each place, given the marks and the boxes of the other names, `[n]`."""
    padded = others + np.array([-1.5, -0.3, 1.5, 0.3]) * point
    lines, other_lines = _leaders(mark, boxes, point), _leaders(marks, others, point)
    return np.asarray(
        HIDES_NAME * _overlaps(boxes, padded).sum(1)
        + CROSSES_NAME * (_hits(lines, padded).sum(1) + _hits(other_lines, boxes).sum(0))
        + CROSSES_LINE * _crossings(lines, other_lines).sum(1)
    )


def _nearest(boxes: Floats, marks: Floats) -> Floats:
    """The point of each box that is nearest to its mark, or to the one mark of all boxes."""
    return np.asarray(np.clip(marks, boxes[..., :2], boxes[..., 2:]))


def _leaders(marks: Floats, boxes: Floats, point: float) -> Floats:
    """The line from a mark (or as many marks) to each box, `[n,2,2]`; of no length if the box is attached."""
    ends = _nearest(boxes, marks)
    attached = np.hypot(*(ends - marks).T) <= _ATTACHED * point
    starts = np.where(attached[:, None], ends, marks + (ends - marks) * 0.15)
    return np.stack([starts, ends], 1)


def _overlaps(boxes: Floats, others: Floats) -> NDArray[np.bool_]:
    """The pairs that overlap, `[boxes, others]`."""
    low, high = np.maximum(boxes[:, None, :2], others[:, :2]), np.minimum(boxes[:, None, 2:], others[:, 2:])
    return np.asarray((low < high).all(-1))


def _hits(segments: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """The pairs of a segment that passes through a box, `[segments, boxes]`, by the slab method."""
    enters, leaves = np.zeros((len(segments), len(boxes))), np.ones((len(segments), len(boxes)))
    for axis in (0, 1):
        start, step = segments[:, 0, None, axis], (segments[:, 1] - segments[:, 0])[:, None, axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (boxes[:, axis] - start) / step, (boxes[:, axis + 2] - start) / step
        enters = np.maximum(enters, np.minimum(first, second))
        leaves = np.minimum(leaves, np.maximum(first, second))
    return np.asarray(enters < leaves)


def _crossings(first: Floats, second: Floats) -> NDArray[np.bool_]:
    """The pairs of segments that cross, `[first, second]`: the ends of each lie on both sides of the other."""

    def side(a: Floats, b: Floats, c: Floats) -> Floats:
        (x1, y1), (x2, y2) = np.moveaxis(b - a, -1, 0), np.moveaxis(c - a, -1, 0)
        return np.asarray(np.sign(x1 * y2 - y1 * x2))

    a, b = first[:, None, 0], first[:, None, 1]
    c, d = second[None, :, 0], second[None, :, 1]
    return np.asarray((side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0))
