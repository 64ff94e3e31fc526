"""Example images: clean, noisy, and purified by each purifier, with the predicted class."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bench.errors import InputError
from bench.plots.style import INK, LABEL, RIGHT, SMALL, SOFT, WRONG, Page, remarks, styled
from bench.store import Examples
from bench.summary import Summary
from bench.summary.palette import FAMILIES
from bench.summary.rows import NamedPanel, conditions, drawable, named_panels

_MOST_COLUMNS = 14  # with more, the grid continues below, and repeats the clean and the noisy images
LARGEST, GUTTER, LINE, ROW_NAMES = 1.05, 0.07, 0.13, 0.72  # inches
_BOLD, _PLAIN = 0.7, 0.6  # mean width of a letter, in sizes


class _Column(NamedTuple):
    """Pictures below one heading, with their predicted classes, if any."""

    heading: str
    ink: str
    pictures: np.ndarray
    predicted: np.ndarray | None


@styled
def image_grid(summary: Summary, examples: Examples, sigma: float) -> Figure:
    """Example images at one sigma: a row for each image, a column for each purifier.

    Raises:
        ValueError: there are no examples at this sigma.
    """
    panels = named_panels(summary, examples, sigma)
    if not panels:
        raise InputError(f"there are no example images at sigma = {sigma:g}")
    bands = _columns_of(examples, panels)
    most, count = max(map(len, bands)), len(examples.clean)
    longest = max(len(examples.classes[label]) for label in examples.labels)
    left = Page.MARGIN + max(ROW_NAMES, longest * _BOLD * LABEL / 72 + GUTTER)
    side = min((Page.WIDTH - Page.MARGIN - left) / most - GUTTER, LARGEST)
    headings = [_wrap_headings(columns, side) for columns in bands]
    heights = [max(h.count("\n") + 1 for h in band) * LINE + 0.06 for band in headings]
    row = side + LINE + 0.1
    body = sum(heights) + len(bands) * (count * row + 0.14)
    rows = drawable(summary)
    here = rows[rows["sigma"] == sigma] if len(rows) else rows
    page = Page(
        f"Example images, σ = {sigma:g}",
        summary.title,
        [
            "One draw of the noise for each image, with its predicted class: ✓ correct, ✗ wrong. These are single "
            "draws, not certificates.",
            *([f"Certified in the same run: {conditions(here)}."] if len(here) else []),
            *remarks(summary),
        ],
        body,
        head=0.8,
    )
    top = 0.0
    for columns, words, height in zip(bands, headings, heights, strict=True):
        axes = page.axes(0, top, page.WIDTH, height + count * row)
        axes.set_axis_off()
        axes.set_xlim(0, page.WIDTH)
        axes.set_ylim(height + count * row, 0)
        for i in range(count):
            y = height + i * row + side / 2
            label = examples.classes[examples.labels[i]]
            axes.text(Page.MARGIN, y - 0.07, label, size=LABEL, weight="bold", va="center")
            axes.text(Page.MARGIN, y + 0.07, f"image {examples.images[i]}", size=SMALL, color=SOFT, va="center")
        for j, (column, heading) in enumerate(zip(columns, words, strict=True)):
            x = left + j * (side + GUTTER)
            size = min(SMALL, (side + GUTTER) * 72 / (_PLAIN * max(map(len, heading.split("\n")), default=1)))
            look: dict[str, Any] = {"size": size, "color": column.ink, "linespacing": 1.15}
            axes.text(x + side / 2, height - 0.06, heading, ha="center", va="bottom", **look)
            for i in range(count):
                _show(axes, column, i, examples, (x, height + i * row, side))
        top += height + count * row + 0.14
    return page.figure


def _columns_of(examples: Examples, panels: Sequence[NamedPanel]) -> list[list[_Column]]:
    """The columns in bands that fit a page; a purifier of the family `none` shares a column with the noisy images."""
    noisy = _Column("noisy", INK, panels[0].panel.noisy, None)
    purified = []
    for panel, name, kind, untouched in panels:
        if kind == "none" and untouched:
            noisy = noisy._replace(heading=f"noisy ({name})", predicted=panel.predicted)
        else:
            purified.append(_Column(name, FAMILIES[kind].ink, panel.purified, panel.predicted))
    bands = max(1, math.ceil(len(purified) / (_MOST_COLUMNS - 2)))
    room = max(1, math.ceil(len(purified) / bands))  # so that the last band is nearly as long as the others
    parts = [purified[i : i + room] for i in range(0, len(purified), room)] or [[]]
    return [[_Column("clean", INK, examples.clean, None), noisy, *part] for part in parts]


def _wrap_headings(columns: Sequence[_Column], side: float) -> list[str]:
    """The headings, broken between words into lines of a picture's width; a longer word is written smaller."""
    letters = max(5, int((side + GUTTER) * 72 / (SMALL * _PLAIN)))
    return ["\n".join(textwrap.wrap(column.heading, letters, break_long_words=False)) for column in columns]


def _show(axes: Axes, column: _Column, i: int, examples: Examples, box: tuple[float, float, float]) -> None:
    """One picture with its frame and its predicted class; `box` is left, top and side in inches."""
    x, y, side = box
    pixels = column.pictures[i].transpose(1, 2, 0)
    extent = (x, x + side, y + side, y)  # of pictures in colour, matplotlib ignores the colour map
    axes.imshow(pixels, "gray", aspect="auto", interpolation="none", vmin=0, vmax=255, extent=extent, zorder=2)
    colour = "#C9CED4"
    if column.predicted is not None:
        seen = int(column.predicted[i])
        correct = seen == examples.labels[i]
        colour = RIGHT if correct else WRONG
        words, weight = ("✓ ", "normal") if correct else ("✗ ", "bold")
        words += examples.classes[seen]
        size = min(SMALL, (side + GUTTER) * 72 / (_BOLD * len(words)))
        axes.text(x + side / 2, y + side + 0.035, words, size=size, color=colour, weight=weight, ha="center", va="top")
    axes.add_patch(Rectangle((x, y), side, side, fill=False, ec=colour, lw=1.0, zorder=3))
