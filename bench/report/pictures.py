"""The example images as tables of inline PNGs: clean, noisy and purified, with the predicted classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from PIL import Image

from bench.store import Examples
from bench.summary import Summary
from bench.summary.rows import named_panels

_WIDTHS = (96, 64, 40, 24)  # pixels to which pictures are scaled down: the first width at which `_ENOUGH` of them fit
_ENOUGH = 3  # images
_MOST_LETTERS = 2_000_000  # of all pictures: the page stays below 5 MB


class _Line(NamedTuple):
    """A row of pictures, as data URLs, under one name; `predicted`: labels `[n]`, None without classification."""

    name: str
    family: str
    pictures: list[str]
    predicted: np.ndarray | None = None


class _Grid(NamedTuple):
    """The images of one run at one sigma."""

    run: str
    sigma: float
    examples: Examples
    lines: list[_Line]


def grids(summary: Summary, examples: Mapping[str, Examples]) -> tuple[list[_Grid], int]:
    """A grid for each run (by name) and sigma, and the number of its images that fit into `_MOST_LETTERS`."""
    count, full = 0, []
    for width in _WIDTHS:
        full = [grid for run, own in examples.items() for grid in _grids_of(summary, run, own, width)]
        lines = [line.pictures for grid in full for line in grid.lines]
        most = max(map(len, lines), default=0)
        sizes = {n: sum(len(picture) for line in lines for picture in line[:n]) for n in range(1, most + 1)}
        count = max((n for n, size in sizes.items() if size <= _MOST_LETTERS), default=0)
        if count >= min(most, _ENOUGH):
            break
    return (full if count else []), count


def _grids_of(summary: Summary, run: str, examples: Examples, width: int) -> Iterator[_Grid]:
    """The grids of one run: clean and noisy images first, then purifiers in the order of the palette.

    Parameters:
        width: of a picture at most, in pixels.
    """
    clean = _Line("clean", "", _pngs(examples.clean, width))
    for sigma in sorted({panel.sigma for panel in examples.panels}):
        panels = named_panels(summary, examples, sigma)
        lines = [
            _Line(f"noisy ({name})" if untouched else name, family, _pngs(panel.purified, width), panel.predicted)
            for panel, name, family, untouched in panels
        ]
        if not any(named.untouched for named in panels):
            lines = [_Line("noisy", "", _pngs(panels[0].panel.noisy, width)), *lines]
        yield _Grid(run, sigma, examples, [clean, *lines])


def _pngs(pictures: Iterable[np.ndarray], width: int) -> list[str]:
    """PNGs of uint8 images `[C,H,W]` as data URLs, scaled down to `width` if they are larger."""
    urls = []
    for pixels in pictures:
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
        if max(image.size) > width:
            image.thumbnail((width, width), Image.Resampling.BOX)
        buffer = io.BytesIO()
        image.save(buffer, "PNG", optimize=True)
        urls.append("data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())
    return urls
