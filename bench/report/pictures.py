"""The example images as a table of inline PNGs: what purifiers make of noisy images, with the class that is seen."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from PIL import Image

from bench.store.examples import Examples, Panel
from bench.summary.names import parse_label, short_names
from bench.summary.palette import FAMILIES
from bench.summary.summary import Summary

WIDTHS = (96, 64, 40, 24)  # pixels that pictures are scaled down to: the first at which enough of them fit
ENOUGH = 3  # images
MOST_LETTERS = 2_000_000  # of all pictures: the page stays below 5 MB


@dataclass(frozen=True)
class Picture:
    """An image with its words: `seen` is the class that was predicted, None where none was."""

    png: str
    alt: str
    seen: str | None = None
    correct: bool = False


@dataclass(frozen=True)
class Line:
    """What one purifier (or none yet) makes of each image."""

    name: str
    family: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Grid:
    """The images of one run at one sigma, with their true classes; `left_out` are not shown, to keep the page small."""

    run: str
    sigma: float
    heads: Sequence[str]
    lines: Sequence[Line]
    left_out: int = 0

    def size(self, count: int) -> int:
        """Letters that the first pictures of every line take."""
        return sum(len(picture.png) for line in self.lines for picture in line.pictures[:count])

    def shortened(self, count: int) -> Grid:
        """The first images only."""
        lines = [replace(line, pictures=line.pictures[:count]) for line in self.lines]
        return replace(self, heads=self.heads[:count], lines=lines, left_out=max(0, len(self.heads) - count))


def grids(summary: Summary, examples: Mapping[str, Examples]) -> list[Grid]:
    """A grid for each run (by name) and sigma, of as many images as fit; none where not even one does."""
    count, full = 0, []
    for width in WIDTHS:
        full = [grid for run, found in examples.items() for grid in grids_of(summary, run, found, width)]
        most = max((len(grid.heads) for grid in full), default=0)
        count = next((n for n in range(most, 0, -1) if sum(grid.size(n) for grid in full) <= MOST_LETTERS), 0)
        if count >= min(most, ENOUGH):
            break
    return [grid.shortened(count) for grid in full] if count else []


def grids_of(summary: Summary, run: str, examples: Examples, width: int) -> Iterator[Grid]:
    """The grids of one run: clean and noisy images first, then purifiers in the order of the palette.

    Parameters:
        width: most pixels of a picture.
    """
    table = pd.DataFrame({"label": [panel.cell for panel in examples.panels]})
    table["purifier"] = [parse_label(label)[0] for label in table["label"]]
    known = dict(zip(summary.table["label"], summary.table["family"], strict=True)) if len(summary.table) else {}
    table["family"] = [kin if (kin := known.get(label)) in FAMILIES else "other" for label in table["label"]]
    names, families = short_names(table), dict(zip(table["label"], table["family"], strict=True))
    order = list(FAMILIES)
    for sigma in sorted({panel.sigma for panel in examples.panels}):
        panels = [panel for panel in examples.panels if panel.sigma == sigma]
        panels.sort(key=lambda panel: order.index(families[panel.cell]))
        noisy = panels[0].noisy
        lines = [
            Line(
                f"noisy ({names[p.cell]})" if np.array_equal(p.purified, noisy) else names[p.cell],
                families[p.cell],
                judged(examples, p, names[p.cell], width),
            )
            for p in panels
        ]
        if not any(np.array_equal(panel.purified, noisy) for panel in panels):
            lines = [Line("noisy", "", plain(examples, noisy, "noisy", width)), *lines]
        heads = [examples.classes[label] for label in examples.labels]
        yield Grid(run, sigma, heads, [Line("clean", "", plain(examples, examples.clean, "clean", width)), *lines])


def plain(examples: Examples, pictures: np.ndarray, name: str, width: int) -> list[Picture]:
    """Images that no classifier saw."""
    return [
        Picture(png(pixels, width), f"image {image}, {name}: class {examples.classes[label]}")
        for pixels, image, label in zip(pictures, examples.images, examples.labels, strict=True)
    ]


def judged(examples: Examples, panel: Panel, name: str, width: int) -> list[Picture]:
    """Purified images with the class that is seen in them."""
    found = []
    for pixels, image, label, seen in zip(
        panel.purified, examples.images, examples.labels, panel.predicted, strict=True
    ):
        verdict = "correct" if seen == label else f"wrong, it is {examples.classes[label]}"
        alt = f"image {image}, {name}: the classifier sees {examples.classes[seen]}, {verdict}"
        found.append(Picture(png(pixels, width), alt, examples.classes[seen], bool(seen == label)))
    return found


def png(pixels: np.ndarray, width: int) -> str:
    """uint8 `[C,H,W]` as a data address, scaled down where it is large."""
    image = Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    if max(image.size) > width:
        image.thumbnail((width, width), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
