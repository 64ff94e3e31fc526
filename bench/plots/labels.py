"""Names beside points without overlaps: every name tries many places, and takes the one that hides the least.

All geometry is in pixels. Names are placed one after the other, those in a crowd first, and then reconsider their
places given the others', a few times: enough for what one panel can show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from numpy.typing import NDArray

from bench.plots.style import FAINT, LABEL, figure_of

Floats = NDArray[np.float64]

ROUNDS = 6
DISTANCES = (6.0, 10.0, 16.0, 24.0, 34.0, 46.0, 60.0, 76.0)  # points, from a mark to its name
ANGLES = np.radians(np.arange(0, 360, 15))
ATTACHED = 11.0  # points: nearer than this a name needs no line to its mark

# What a place costs, beside 0.4 for each point of distance and 3 for the need of a line: chosen by eye.
HIDES_NAME, HIDES_MARK, HIDES_BAR, HIDES_FRONT = 60, 40, 11, 7
CROSSES_NAME, CROSSES_MARK, CROSSES_LINE = 30, 12, 14
MISLEADS = 9
OUTSIDE = 1e6


@dataclass(frozen=True)
class Name:
    """Words for the point at `x, y` (pixels), in a colour."""

    x: float
    y: float
    words: str
    colour: str
    alpha: float = 1.0


@dataclass(frozen=True)
class Scene:
    """What names should not hide.

    Attributes:
        frame: `left, bottom, right, top` within which they stay.
        bars, lines: intervals, and the front, as segments `[n,2,2]`.
        taken: boxes of words that are already there.
        point: pixels in a typographic point.
    """

    frame: Floats
    bars: Floats
    lines: Floats
    taken: Floats
    point: float


def place_names(axes: Axes, names: Sequence[Name], bars: Floats, lines: Floats, taken: Sequence[Floats] = ()) -> None:
    """Write names beside their points, with a thin line to those that must stand apart.

    Parameters:
        bars, lines: intervals, and the front, as segments `[n,2,2]`.
        taken: boxes of words that are already there, `(left, bottom, right, top)`.
    """
    if not names:
        return
    figure = figure_of(axes)
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer, point = canvas.get_renderer(), figure.dpi / 72
    sizes = []
    for name in names:
        probe = axes.text(0, 0, name.words, size=LABEL)
        box = probe.get_window_extent(renderer)
        probe.remove()
        sizes.append((box.width, box.height))
    frame = axes.get_window_extent(renderer)
    scene = Scene(
        frame=np.array([frame.x0 + point, frame.y0 + point, frame.x1, frame.y1 + 4 * point]),
        bars=bars,
        lines=lines,
        taken=np.array(taken).reshape(-1, 4),
        point=point,
    )
    centres = np.array([(n.x, n.y) for n in names])
    candidates = [candidate_boxes(c, size, point) for c, size in zip(centres, sizes, strict=True)]
    fixed = [fixed_cost(scene, centres, i, boxes) for i, boxes in enumerate(candidates)]
    chosen = [int(np.argmin(cost)) for cost in fixed]
    crowd = np.array([(np.hypot(*(centres - c).T) < 60 * point).sum() for c in centres])
    placed: set[int] = set()
    for turn in range(ROUNDS):
        before = list(chosen)
        for i in sorted(range(len(names)), key=lambda i: -crowd[i]):
            others = [j for j in (placed if turn == 0 else range(len(names))) if j != i]
            cost = fixed[i] + crossing_cost(
                centres[i], candidates[i], centres[others], np.array([candidates[j][chosen[j]] for j in others]), point
            )
            chosen[i] = int(np.argmin(cost))
            placed.add(i)
        if turn and before == chosen:
            break
    to_axes = axes.transAxes.inverted()
    for name, centre, boxes, i in zip(names, centres, candidates, chosen, strict=True):
        left, bottom, right, top = boxes[i]
        x, y = to_axes.transform(((left + right) / 2, (bottom + top) / 2))
        axes.text(
            x,
            y,
            name.words,
            transform=axes.transAxes,
            size=LABEL,
            color=name.colour,
            alpha=name.alpha,
            ha="center",
            va="center",
            zorder=6,
            bbox={"facecolor": "white", "alpha": 0.6, "edgecolor": "none", "pad": 0.4},
        )
        end = np.clip(centre, (left, bottom), (right, top))
        if np.hypot(*(end - centre)) > ATTACHED * point:
            start = centre + (end - centre) / np.hypot(*(end - centre)) * 3.5 * point
            xs, ys = to_axes.transform([start, end]).T
            axes.plot(xs, ys, transform=axes.transAxes, color=FAINT, lw=0.6, zorder=2.5, solid_capstyle="round")


def candidate_boxes(centre: Floats, size: tuple[float, float], point: float) -> Floats:
    """Boxes of a name around its mark, `[n,4]`: at each distance and angle the box touches the circle."""
    width, height = size
    distance, angle = (grid.ravel() for grid in np.meshgrid(np.array(DISTANCES) * point, ANGLES, indexing="ij"))
    along, up = np.cos(angle), np.sin(angle)
    x = centre[0] + distance * along + np.sign(np.round(along, 6)) * width / 2 * np.minimum(1, np.abs(along) * 1.8)
    y = centre[1] + distance * up + up * height / 2
    return np.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], 1)


def fixed_cost(scene: Scene, centres: Floats, i: int, boxes: Floats) -> Floats:
    """What each place of the name of mark `i` costs, whatever the other names do."""
    centre, point = centres[i], scene.point
    ends = np.clip(centre, boxes[:, :2], boxes[:, 2:])
    distance = np.hypot(*(ends - centre).T) / point
    attached = distance <= ATTACHED
    cost = distance * 0.4 + np.where(attached, 0.0, 3.0)
    cost += OUTSIDE * ((boxes[:, :2] < scene.frame[:2]) | (boxes[:, 2:] > scene.frame[2:])).any(1)
    squares = np.concatenate([centres - 4 * point, centres + 4 * point], 1)
    cost += HIDES_MARK * overlaps(boxes, squares)
    wide = boxes + np.array([-2, 0, 2, 0]) * point
    cost += HIDES_BAR * segments_in_boxes(scene.bars, wide) + HIDES_FRONT * segments_in_boxes(scene.lines, wide)
    others = np.delete(centres, i, axis=0)
    away = np.clip(others, boxes[:, None, :2], boxes[:, None, 2:]) - others
    nearer = (np.hypot(away[..., 0], away[..., 1]) < distance[:, None] * point).any(1)
    cost += MISLEADS * (nearer & attached)  # without a line, a name belongs to the mark next to it
    leaders = leader_lines(centre, ends, point)
    cost += CROSSES_MARK * segment_boxes(leaders, np.delete(squares, i, axis=0))
    return cost + HIDES_NAME * overlaps(boxes, scene.taken) + CROSSES_NAME * segment_boxes(leaders, scene.taken)


def crossing_cost(centre: Floats, boxes: Floats, centres: Floats, others: Floats, point: float) -> Floats:
    """What each place costs given where the other names stand."""
    if not len(others):
        return np.zeros(len(boxes))
    air = np.array([-1.5, -0.3, 1.5, 0.3]) * point
    ends = np.clip(centre, boxes[:, :2], boxes[:, 2:])
    leaders = leader_lines(centre, ends, point)
    theirs = leader_lines(centres, np.clip(centres, others[:, :2], others[:, 2:]), point)
    cost = HIDES_NAME * overlaps(boxes, others + air) + CROSSES_NAME * segment_boxes(leaders, others + air)
    cost += CROSSES_NAME * segments_in_boxes(theirs, boxes)
    return cost + CROSSES_LINE * crossings(leaders, theirs)


def leader_lines(centre: Floats, ends: Floats, point: float) -> Floats:
    """Lines from a mark (or as many marks) to places, `[n,2,2]`; of no length where the name stands near enough."""
    near = np.hypot(*(ends - centre).T) <= ATTACHED * point
    starts = np.where(near[:, None], ends, centre + (ends - centre) * 0.15)
    return np.stack([starts, ends], 1)


def overlaps(boxes: Floats, others: Floats) -> Floats:
    """How many of `others` each box overlaps."""
    wide = np.minimum(boxes[:, None, 2], others[None, :, 2]) > np.maximum(boxes[:, None, 0], others[None, :, 0])
    high = np.minimum(boxes[:, None, 3], others[None, :, 3]) > np.maximum(boxes[:, None, 1], others[None, :, 1])
    return (wide & high).sum(1).astype(float)


def hits(segments: Floats, boxes: Floats) -> NDArray[np.bool_]:
    """Which segments pass through which boxes, `[segments, boxes]`: when inside across is also when inside upwards."""
    enters, leaves = np.zeros((len(segments), len(boxes))), np.ones((len(segments), len(boxes)))
    for axis in (0, 1):
        start, step = segments[:, 0, None, axis], (segments[:, 1] - segments[:, 0])[:, None, axis]
        with np.errstate(divide="ignore", invalid="ignore"):
            first, second = (boxes[:, axis] - start) / step, (boxes[:, axis + 2] - start) / step
        enters = np.maximum(enters, np.minimum(first, second))
        leaves = np.minimum(leaves, np.maximum(first, second))
    return np.asarray(enters < leaves)


def segment_boxes(segments: Floats, boxes: Floats) -> Floats:
    """How many boxes each segment passes through."""
    return hits(segments, boxes).sum(1).astype(float) if len(boxes) else np.zeros(len(segments))


def segments_in_boxes(segments: Floats, boxes: Floats) -> Floats:
    """How many segments pass through each box."""
    return hits(segments, boxes).sum(0).astype(float) if len(segments) else np.zeros(len(boxes))


def crossings(first: Floats, second: Floats) -> Floats:
    """How many of the second segments each of the first crosses."""

    def side(a: Floats, b: Floats, c: Floats) -> Floats:
        (x1, y1), (x2, y2) = np.moveaxis(b - a, -1, 0), np.moveaxis(c - a, -1, 0)
        return np.sign(x1 * y2 - y1 * x2)

    a, b = first[:, None, 0], first[:, None, 1]
    c, d = second[None, :, 0], second[None, :, 1]
    crossed = (side(a, b, c) * side(a, b, d) < 0) & (side(c, d, a) * side(c, d, b) < 0)
    return crossed.sum(1).astype(float)
