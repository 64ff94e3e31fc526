"""A race: the certified accuracy of its candidates against the draws that it spent, and where each one was dropped."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.plots.style import (
    FAINT,
    INK,
    LABEL,
    SMALL,
    SOFT,
    Page,
    annotate,
    family_handles,
    nothing,
    percent_tick,
    remarks,
    styled,
)
from bench.store.races import Dropped, Race
from bench.summary import Summary
from bench.summary.format import number_of, p_text
from bench.summary.names import series_of
from bench.summary.palette import FAMILIES, family_of
from bench.summary.statistics import wilson_interval

LEFT, PLOT, NAMES, LADDER, ROW, AXIS, HEADING = 0.62, 3.85, 1.95, 2.7, 0.178, 0.5, 0.34
_READING = (
    "Left: share of the images drawn so far that are certified at radius {radius:g} under the full rule, by round; "
    "open images count one half; shaded: 95 % interval (Wilson) of the choice. Right: draws of the whole race when a "
    "candidate was dropped (×), with its share at that time and, if it was beaten, the p-value (betting, valid at "
    "every look, corrected for {rivals} comparisons); ●: not dropped. {images} of {all} images, in random order."
)


class _Line(NamedTuple):
    """A candidate: its name and colours, and its course: draws, and shares certified for certain and possibly."""

    cell: str
    name: str
    colour: str
    ink: str
    draws: list[int]
    low: list[float]
    high: list[float]
    dropped: Dropped | None

    @property
    def share(self) -> list[float]:
        return [(a + b) / 2 for a, b in zip(self.low, self.high, strict=True)]


@styled
def race(summary: Summary, of_run: Race, run: str) -> Figure:
    """The lines of all candidates, and the ladder of their names.

    Parameters:
        of_run: the race of the run with the name `run` in the summary.
    """
    lines = _lines(summary, of_run, run)
    if not lines:
        return nothing(summary)
    rounds = of_run.rounds
    reading = _READING.format(
        radius=of_run.radius, rivals=len(of_run.candidates) - 1, images=rounds[-1].images, all=len(of_run.order)
    )
    body = max(2.6, HEADING + len(lines) * ROW) + AXIS
    page = Page(_title(of_run, lines), summary.title, [reading, *remarks(summary)], body, head=1.0)
    families = dict(zip(summary.table["cell"], map(family_of, summary.table["family"]), strict=True))
    page.legend(family_handles({families[line.cell] for line in lines}))
    end = 1.0 * rounds[-1].draws or 1.0
    page.heading(LEFT, 0, "Certified accuracy so far")
    courses = page.axes(LEFT, HEADING, PLOT, body - HEADING - AXIS)
    _draw_courses(courses, lines, of_run, end)
    left = LEFT + PLOT + NAMES
    page.heading(left, 0, "Dropped after")
    ladder = page.axes(left, HEADING, LADDER - 0.5, body - HEADING - AXIS)
    _draw_ladder(ladder, lines, of_run, end)
    return page.figure


def _lines(summary: Summary, of_run: Race, run: str) -> list[_Line]:
    """The candidates, those that remain first, then the last dropped; the highest first among equals."""
    table = summary.table.assign(series=series_of(summary.table))
    rows = table[(table["run"] == run) & table["cell"].isin(of_run.candidates)].set_index("cell")
    gone = {dropped.cell: dropped for dropped in of_run.dropped}
    lines = []
    for cell, row in rows.iterrows():
        seen = [r for r in of_run.rounds if cell in r.standing]
        if seen:
            low, high = ([r.standing[cell][i] for r in seen] for i in (0, 1))
            look = FAMILIES[family_of(row["family"])]
            name = f"{row['series']}, σ = {row['sigma']:g}"
            lines.append(_Line(cell, name, look.colour, look.ink, [r.draws for r in seen], low, high, gone.get(cell)))
    return sorted(
        lines,
        key=lambda x: (x.cell != of_run.chosen, -(x.dropped.round if x.dropped else math.inf), -x.share[-1]),
    )


def _title(of_run: Race, lines: list[_Line]) -> str:
    left = sum(line.dropped is None for line in lines)
    chosen = next((line.name for line in lines if line.cell == of_run.chosen), None)
    words = f"A race at radius {of_run.radius:g}: {number_of(len(lines), 'candidate')}, {left} left"
    return words if chosen is None else f"{words}; the choice is {chosen}"


def _draw_courses(axes: Axes, lines: list[_Line], of_run: Race, end: float) -> None:
    for line in reversed(lines):
        chosen = line.cell == of_run.chosen
        width, alpha = (2.4, 1.0) if chosen else (0.9, 0.55) if line.dropped else (1.3, 0.9)
        axes.plot(line.draws, line.share, color=line.colour, lw=width, alpha=alpha, zorder=4 + chosen)
        if line.dropped:
            axes.plot(line.draws[-1:], line.share[-1:], "x", color=line.colour, ms=4.5, mew=1.2, zorder=5)
        else:
            axes.plot(line.draws[-1:], line.share[-1:], "o", color=line.colour, ms=3.6, mec="white", mew=0.5, zorder=6)
        if chosen:
            images = [r.images for r in of_run.rounds if line.cell in r.standing]
            low = [wilson_interval(round(a * n), n)[0] for a, n in zip(line.low, images, strict=True)]
            high = [wilson_interval(round(b * n), n)[1] for b, n in zip(line.high, images, strict=True)]
            axes.fill_between(line.draws, low, high, color=line.colour, alpha=0.15, lw=0, zorder=1)
    axes.set_xlim(0, 1.03 * end)
    axes.set_ylim(bottom=max(0.0, axes.get_ylim()[0]), top=min(1.0, axes.get_ylim()[1]))
    axes.yaxis.set_major_formatter(percent_tick)
    _label_draws(axes)


def _draw_ladder(axes: Axes, lines: list[_Line], of_run: Race, end: float) -> None:
    for i, line in enumerate(lines):
        chosen = line.cell == of_run.chosen
        axes.plot([0, line.draws[-1]], [i, i], color=line.colour, lw=2.2 if chosen else 1.2, solid_capstyle="butt")
        mark: dict[str, Any] = (
            {"marker": "x", "ms": 4.5, "mew": 1.2} if line.dropped else {"marker": "o", "ms": 4.5, "mec": "white"}
        )
        axes.plot([line.draws[-1]], [i], color=line.colour, zorder=5, **mark)
        annotate(
            axes,
            line.name,
            (0, i),
            axes.get_yaxis_transform(),
            (-5, 0),
            ha="right",
            va="center",
            size=LABEL - 0.5,
            color=INK if chosen else line.ink,
            weight="bold" if chosen else "normal",
        )
        annotate(axes, _fate(line), (line.draws[-1], i), "data", (5, 0), va="center", color=SOFT, size=SMALL - 0.3)
    axes.set_xlim(0, 1.03 * end)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.set_yticks([])
    axes.grid(False, axis="y")
    axes.spines["left"].set_color(FAINT)
    _label_draws(axes)


def _fate(line: _Line) -> str:
    share = f"{100 * line.share[-1]:.1f} %"
    if line.dropped is None:
        return share
    return f"{share}, p = {p_text(line.dropped.p)}".replace("= <", "< ") if line.dropped.rival else "left out"


def _label_draws(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x / 1000:g}k" if x else "0"))
    axes.set_xlabel("Draws of the race")
