"""The example images as tables of inline PNGs: clean, noisy and purified, with the predicted classes."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from bench.store.examples import Examples, Panel
from bench.summary.panels import named_panels
from bench.summary.summary import Summary

WIDTHS = (96, 64, 40, 24)  # pixels to which pictures are scaled down: the first width at which `ENOUGH` of them fit
ENOUGH = 3  # images
MOST_LETTERS = 2_000_000  # of all pictures: the page stays below 5 MB


@dataclass(frozen=True)
class Picture:
    """An image with its alternative text; `seen` is the predicted class, None if the image was not classified."""

    png: str
    alt: str
    seen: str | None = None
    correct: bool = False


@dataclass(frozen=True)
class Line:
    """A row of pictures under one name: clean, noisy, or purified by one purifier."""

    name: str
    family: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Grid:
    """The images of one run at one sigma under their true classes (`heads`), without `left_out` of them."""

    run: str
    sigma: float
    heads: Sequence[str]
    lines: Sequence[Line]
    left_out: int = 0

    def size(self, count: int) -> int:
        """The number of letters of the first pictures of every line."""
        return sum(len(picture.png) for line in self.lines for picture in line.pictures[:count])

    def shortened(self, count: int) -> Grid:
        """The first images only."""
        lines = [replace(line, pictures=line.pictures[:count]) for line in self.lines]
        return replace(self, heads=self.heads[:count], lines=lines, left_out=max(0, len(self.heads) - count))


def grids(summary: Summary, examples: Mapping[str, Examples]) -> list[Grid]:
    """A grid for each run (by name) and sigma, of as many images as fit into `MOST_LETTERS`."""
    count, full = 0, []
    for width in WIDTHS:
        full = [grid for run, own in examples.items() for grid in grids_of(summary, run, own, width)]
        most = max((len(grid.heads) for grid in full), default=0)
        count = next((n for n in range(most, 0, -1) if sum(grid.size(n) for grid in full) <= MOST_LETTERS), 0)
        if count >= min(most, ENOUGH):
            break
    return [grid.shortened(count) for grid in full] if count else []


def grids_of(summary: Summary, run: str, examples: Examples, width: int) -> Iterator[Grid]:
    """The grids of one run: clean and noisy images first, then purifiers in the order of the palette.

    Parameters:
        width: of a picture at most, in pixels.
    """
    heads = [examples.classes[label] for label in examples.labels]
    clean = Line("clean", "", unclassified(examples, examples.clean, "clean", width))
    for sigma in sorted({panel.sigma for panel in examples.panels}):
        panels = named_panels(summary, examples, sigma)
        lines = [
            Line(f"noisy ({name})" if untouched else name, family, classified(examples, panel, name, width))
            for panel, name, family, untouched in panels
        ]
        if not any(named.untouched for named in panels):
            lines = [Line("noisy", "", unclassified(examples, panels[0].panel.noisy, "noisy", width)), *lines]
        yield Grid(run, sigma, heads, [clean, *lines])


def unclassified(examples: Examples, pictures: np.ndarray, name: str, width: int) -> list[Picture]:
    """Images without a predicted class."""
    return [
        Picture(png(pixels, width), f"image {image}, {name}: class {examples.classes[label]}")
        for pixels, image, label in zip(pictures, examples.images, examples.labels, strict=True)
    ]


def classified(examples: Examples, panel: Panel, name: str, width: int) -> list[Picture]:
    """Purified images with their predicted classes."""
    pictures = []
    for pixels, image, label, seen in zip(
        panel.purified, examples.images, examples.labels, panel.predicted, strict=True
    ):
        verdict = "correct" if seen == label else f"wrong, it is {examples.classes[label]}"
        alt = f"image {image}, {name}: the classifier sees {examples.classes[seen]}, {verdict}"
        pictures.append(Picture(png(pixels, width), alt, examples.classes[seen], bool(seen == label)))
    return pictures


def png(pixels: np.ndarray, width: int) -> str:
    """A PNG of a uint8 image `[C,H,W]` as a data URL, scaled down to `width` if it is larger."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(image.size) > width:
        image.thumbnail((width, width), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
