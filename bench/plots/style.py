"""The common style of all pictures: colours, type sizes, and the page with its title, legend and footer."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

from bench.files import writing
from bench.summary import Summary
from bench.summary.palette import FAMILIES

_STYLE_FILE = Path(__file__).with_name("style.mplstyle")
_STYLE = matplotlib.rc_params_from_file(_STYLE_FILE, use_default_template=False)
styled = matplotlib.style.context(_STYLE_FILE, after_reset=True)  # a decorator: it restores the caller's settings
INK, SOFT, FAINT = _STYLE["text.color"], _STYLE["axes.labelcolor"], _STYLE["axes.edgecolor"]
RIGHT, WRONG = "#1A7F5A", "#C23A1E"
TITLE, SUBTITLE, HEADING, TEXT, LABEL, SMALL = 13.0, 9.0, 10.0, _STYLE["font.size"], _STYLE["legend.fontsize"], 7.0

METADATA: dict[str, dict[str, None]] = {  # without dates and versions: equal pictures are equal files
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def mark(axes: Axes, x: float, y: float, row: Mapping[str, Any], hollow: bool, **options: Any) -> None:
    """Draw the marker of a row of `bench.summary.rows.drawable` in its family's colour."""
    colour = FAMILIES[row["family"]].colour
    fill, edge, thick = ("white", colour, 1.3) if hollow else (colour, "white", 0.7)
    axes.plot([x], [y], marker=row["marker"], ms=6.8, mfc=fill, mec=edge, mew=thick, **{"zorder": 5, **options})


def bar(axes: Axes, x: Sequence[float], y: Sequence[float], colour: str, width: float, **options: Any) -> None:
    """Draw an interval as a line between two points, with ends that do not reach beyond them."""
    axes.plot(x, y, color=colour, lw=width, solid_capstyle="butt", **{"zorder": 3, **options})


def annotate(
    axes: Axes, words: str, at: tuple[float, float], coordinates: Any, shift: tuple[float, float], **options: Any
) -> Annotation:
    """Write small words beside a point.

    Parameters:
        at: the point, in matplotlib's `coordinates`.
        shift: of the words, in points.
    """
    return axes.annotate(words, at, shift, coordinates, "offset points", **{"size": SMALL, **options})


def percent_tick(value: float, position: float) -> str:
    """The label of a tick on an axis of shares."""
    return f"{100 * value:g} %"


class Page:
    """A figure with a title, a subtitle and a footer. Positions are in inches from the top left.

    Parameters:
        title: of the picture.
        subtitle: the title of the run.
        footer: paragraphs of small type at the bottom; the page grows with them.
        body: height of the body between head and footer, in inches.
        head: height of title, subtitle and, if any, legend, in inches.
    """

    WIDTH = 10.0
    MARGIN = 0.16
    LINE = SMALL * 1.42 / 72

    def __init__(self, title: str, subtitle: str, footer: Sequence[str], body: float, head: float = 0.98):
        self.head = head
        columns = int((self.WIDTH - 2 * self.MARGIN) * 72 / (SMALL * 0.545))  # 0.545: mean width of a letter, in sizes
        lines = [
            (line, INK if part.startswith(("Note", "Significantly")) else SOFT)
            for part in footer
            for line in textwrap.wrap(part, columns)
        ]
        foot = 0.2 + len(lines) * self.LINE
        self.height = self.head + body + foot
        self.figure = Figure(figsize=(self.WIDTH, self.height))
        FigureCanvasAgg(self.figure)
        self.text(self.MARGIN, 0.15, title, size=TITLE, weight="bold", va="top")
        subtitle = textwrap.shorten(subtitle, int(columns * 0.75), placeholder=" …")
        self.text(self.MARGIN, 0.43, subtitle, size=SUBTITLE, color=SOFT, va="top")
        for i, (line, ink) in enumerate(lines):
            self.text(self.MARGIN, self.head + body + 0.08 + i * self.LINE, line, size=SMALL, color=ink, va="top")

    def text(self, left: float, top: float, words: str, **options: Any) -> None:
        """Write text at a position on the page."""
        self.figure.text(left / self.WIDTH, 1 - top / self.height, words, **options)

    def heading(self, left: float, top: float, words: str) -> None:
        """Write a heading at a position from the left of the page and from the top of the body."""
        self.text(left, self.head + top + 0.17, words, size=HEADING, weight="bold", va="baseline")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a position from the left of the page and from the top of the body."""
        bottom = self.height - self.head - top - height
        return self.figure.add_axes((left / self.WIDTH, bottom / self.height, width / self.WIDTH, height / self.height))

    def legend(self, handles: Sequence[Line2D], left: float = MARGIN + 0.01, top: float = 0.68, **options: Any) -> None:
        """Legend entries at a position on the page, by default in one line between subtitle and body."""
        spacing = {"ncols": len(handles), "handletextpad": 0.5, "columnspacing": 1.6, "handlelength": 1.4}
        corner = (left / self.WIDTH, 1 - top / self.height)
        self.figure.legend(handles=handles, bbox_to_anchor=corner, **(options or spacing))


def family_handles(names: Iterable[str]) -> list[Line2D]:
    """A legend entry for each family of `names`, in the palette's order: a line, a hollow mark, or a filled mark."""
    looks: dict[str, dict[str, Any]] = {
        "none": {"lw": 1.5},
        "imported": {"ls": "", "marker": "o", "ms": 6, "mfc": "white", "mew": 1.3},
    }
    filled = {"ls": "", "marker": "o", "ms": 6.5, "mec": "white"}
    present = [(name, FAMILIES[name]) for name in FAMILIES if name in set(names)]
    return [Line2D([], [], color=f.colour, label=f.words, **looks.get(name, filled)) for name, f in present]


@styled
def save(figure: Figure, folder: Path, name: str, formats: Iterable[str] = ("png", "svg")) -> list[Path]:
    """Write a figure in formats of `METADATA`; equal figures give equal bytes."""
    paths = [folder / f"{name}.{ending}" for ending in formats]
    for path in paths:
        with writing(path) as file:
            figure.savefig(file, format=path.suffix[1:], metadata=METADATA[path.suffix[1:]])
    return paths


def remarks(summary: Summary) -> list[str]:
    """The summary's notes as paragraphs of a footer."""
    return [f"Note: {note}." for note in summary.notes]


def nothing(summary: Summary) -> Figure:
    """The picture of a summary without figures."""
    page = Page("Nothing is certified yet", summary.title, remarks(summary), body=0.5, head=0.72)
    page.text(page.MARGIN, page.head + 0.15, "There is nothing to draw: no cell has a certified image.", size=HEADING)
    return page.figure
