"""The common style of all pictures: colours, type sizes, and the page with its title, legend and footer."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.summary.palette import FAMILIES, Family
from bench.summary.summary import Summary

WIDTH = 10.0  # inches: at 180 dpi twice the 900 pixels of a README, so a point is 1.25 pixels there
DPI = 180

INK, SOFT, FAINT, GRID = "#1F2328", "#57606A", "#9AA1A9", "#E9EBEE"
RIGHT, WRONG = "#1A7F5A", "#C23A1E"

TITLE, SUBTITLE, HEADING, TEXT, LABEL, SMALL = 13.0, 9.0, 10.0, 8.5, 8.0, 7.0

RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    # The first is part of matplotlib: equal pictures on every machine. The others are for viewers of an SVG.
    "font.sans-serif": ["DejaVu Sans", "Bitstream Vera Sans", "Verdana", "Arial", "sans-serif"],
    "font.size": TEXT,
    "text.color": INK,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": SOFT,
    "axes.labelsize": TEXT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.labelsize": LABEL,
    "ytick.labelsize": LABEL,
    "legend.frameon": False,
    "legend.fontsize": LABEL,
    "text.parse_math": False,  # names may contain dollars
    "svg.fonttype": "none",  # text stays text: small files that can be searched
    "svg.hashsalt": "purifybench",  # equal pictures are equal files
    "pdf.fonttype": 42,  # TrueType, which publishers accept
}

METADATA: dict[str, dict[str, None]] = {  # without dates and versions: equal pictures are equal files
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

P = ParamSpec("P")
R = TypeVar("R")


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with `RC` whatever the user's matplotlibrc, and restore the caller's settings afterwards."""

    @wraps(draw)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(RC)
            return draw(*args, **kwargs)

    return inside


def figure_of(axes: Axes) -> Figure:
    """The figure of axes; there are no subfigures here."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    return figure


def family(name: str) -> Family:
    """The colours of a family, of `other` for an unknown one."""
    return FAMILIES.get(name, FAMILIES["other"])


class Page:
    """A figure with a title, a subtitle and a footer. Positions are in inches from the top left.

    Parameters:
        title: of the picture.
        subtitle: the title of the run.
        footer: paragraphs of small type at the bottom; the page grows with them.
        body: height of the body between head and footer, in inches.
        head: height of title, subtitle and, if any, legend, in inches.
    """

    MARGIN = 0.16
    LINE = SMALL * 1.42 / 72

    def __init__(self, title: str, subtitle: str, footer: Sequence[str], body: float, head: float = 0.98):
        self.width, self.head = WIDTH, head
        columns = int((WIDTH - 2 * self.MARGIN) * 72 / (SMALL * 0.545))  # 0.545: mean width of a letter, in sizes
        lines = [
            (line, INK if part.startswith("Note") else SOFT) for part in footer for line in textwrap.wrap(part, columns)
        ]
        foot = 0.2 + len(lines) * self.LINE
        self.height = self.head + body + foot
        self.figure = Figure(figsize=(self.width, self.height), facecolor="white")
        FigureCanvasAgg(self.figure)
        self.text(self.MARGIN, 0.15, title, size=TITLE, weight="bold", va="top")
        self.text(
            self.MARGIN,
            0.43,
            textwrap.shorten(subtitle, int(columns * 0.75), placeholder=" …"),
            size=SUBTITLE,
            color=SOFT,
            va="top",
        )
        for i, (line, ink) in enumerate(lines):
            self.text(self.MARGIN, self.head + body + 0.08 + i * self.LINE, line, size=SMALL, color=ink, va="top")

    def text(self, left: float, top: float, words: str, **options: Any) -> None:
        """Write text at a position on the page."""
        self.figure.text(left / self.width, 1 - top / self.height, words, **options)

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes at a position from the left of the page and from the top of the body."""
        bottom = self.height - self.head - top - height
        return self.figure.add_axes((left / self.width, bottom / self.height, width / self.width, height / self.height))

    def legend(self, handles: Sequence[Line2D]) -> None:
        """One line of legend entries between subtitle and body."""
        self.figure.legend(
            handles=handles,
            loc="upper left",
            ncols=len(handles),
            borderaxespad=0,
            borderpad=0,
            labelcolor=SOFT,
            bbox_to_anchor=((self.MARGIN + 0.01) / self.width, 1 - 0.68 / self.height),
            handletextpad=0.5,
            columnspacing=1.6,
            handlelength=1.4,
        )


def family_handles(names: Iterable[str]) -> list[Line2D]:
    """A legend entry for each family of `names`, in the palette's order."""
    handles = []
    present = set(names)
    for name, look in FAMILIES.items():
        if name not in present:
            continue
        if name == "none":
            handles.append(Line2D([], [], color=look.colour, lw=1.5, label="none (plain randomized smoothing)"))
        elif name == "imported":
            hollow = Line2D([], [], ls="", marker="o", ms=6, mfc="white", mec=look.colour, mew=1.3)
            hollow.set_label("imported, radii only")
            handles.append(hollow)
        else:
            handles.append(Line2D([], [], ls="", marker="o", ms=6.5, mfc=look.colour, mec="white", label=name))
    return handles


@styled
def save(figure: Figure, folder: Path, name: str, formats: Iterable[str] = ("png", "svg")) -> list[Path]:
    """Write a figure in formats of `METADATA`; equal figures give equal bytes."""
    paths = [folder / f"{name}.{ending}" for ending in formats]
    for path in paths:
        figure.savefig(path, dpi=DPI, metadata=METADATA[path.suffix[1:]])
    return paths


def remarks(summary: Summary) -> list[str]:
    """The summary's notes as paragraphs of a footer."""
    return [f"Note: {note}." for note in summary.notes]


@styled
def nothing(summary: Summary) -> Figure:
    """The picture of a summary without figures."""
    page = Page("Nothing is certified yet", summary.title, remarks(summary), body=0.5, head=0.72)
    page.text(page.MARGIN, page.head + 0.15, "There is nothing to draw: no cell has a certified image.", size=HEADING)
    return page.figure
