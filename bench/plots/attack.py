"""Certified and attacked accuracy against radius: the gap between what is proved and what no attack has broken."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MultipleLocator

from bench.plots.style import HEADING, INK, LABEL, SOFT, Page, annotate, nothing, percent_tick, remarks, styled
from bench.store.attacks import AttackedCell, Attacks
from bench.summary import Summary
from bench.summary.palette import FAMILIES
from bench.summary.rows import drawable

LEFT, BETWEEN, RIGHT, HEADING_ROOM, HEIGHT, GAP, AXIS = 1.95, 0.16, 0.16, 0.3, 0.72, 0.14, 0.5
_READING = (
    "Solid: share of the images with a correct certificate of at least this radius. Dashed: share with a correct "
    "certificate whose class no attack within this radius has changed; the true accuracy lies between them. {images} "
    "images, {attack}, {restarts} restarts. Broken: certificates contradicted by {draws} fresh draws within their "
    "radius, at level {level:g} for a panel."
)


@styled
def attack(summary: Summary, attacks: Attacks, run: str) -> Figure:
    """A line of panels for each purifier, a panel for each sigma.

    Parameters:
        attacks: of the run with the name `run` in the summary.
    """
    rows, by_cell = drawable(summary), {cell.cell: cell for cell in attacks.cells}
    if len(rows):
        rows = rows[(rows["run"] == run) & rows["cell"].isin(by_cell)]
    if rows.empty:
        return nothing(summary)
    sigmas, names = sorted(rows["sigma"].unique()), list(dict.fromkeys(rows["series"]))
    reading = _READING.format(
        images=attacks.images,
        attack=attacks.attack,
        restarts=attacks.restarts,
        draws=attacks.draws,
        level=attacks.level,
    )
    page = Page(
        "What is certified, and what no attack has broken",
        summary.title,
        [reading, *remarks(summary)],
        HEADING_ROOM + len(names) * (HEIGHT + GAP) + AXIS,
    )
    looks = {"certified": "-", "attacked": (0, (3, 2))}
    page.legend([Line2D([], [], color=INK, ls=style, lw=1.5, label=name) for name, style in looks.items()])
    width = (page.WIDTH - LEFT - RIGHT - (len(sigmas) - 1) * BETWEEN) / len(sigmas)
    for column, sigma in enumerate(sigmas):
        left = LEFT + column * (width + BETWEEN)
        page.heading(left, 0, f"σ = {sigma:g}")
        here = rows[rows["sigma"] == sigma].set_index("series")
        end = max(farthest(by_cell[cell]) for cell in here["cell"])
        for line, name in enumerate(names):
            if name not in here.index:
                continue
            top = HEADING_ROOM + line * (HEIGHT + GAP)
            axes = page.axes(left, top, width, HEIGHT)
            _draw(axes, by_cell[here.loc[name, "cell"]], FAMILIES[here.loc[name, "family"]].colour, end)
            axes.tick_params(labelleft=column == 0, labelbottom=line == len(names) - 1)
            if column == 0:
                page.text(page.MARGIN, page.head + top + HEIGHT / 2, name, size=LABEL, va="center")
            if line == len(names) - 1:
                axes.set_xlabel("Radius (L2, pixels in [0, 1])")
    return page.figure


def farthest(cell: AttackedCell) -> float:
    """The largest radius of interest of a cell, certified or attacked."""
    ends = [image.attacked or 0.0 for image in cell.images] + [image.radius for image in cell.images]
    return max(ends, default=1.0)


def _draw(axes: Axes, cell: AttackedCell, colour: str, end: float) -> None:
    """Both curves of one cell, the gap between them shaded, and its broken certificates in words."""
    radii = np.linspace(0, end, 400)
    certified, attacked = cell.certified_at(radii), cell.attacked_at(radii)
    axes.fill_between(radii, certified, attacked, color=colour, alpha=0.14, lw=0)
    axes.plot(radii, certified, color=colour, lw=1.5)
    axes.plot(radii, attacked, color=colour, lw=1.2, ls=(0, (3, 2)))
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_locator(MultipleLocator(0.5))
    axes.yaxis.set_major_formatter(percent_tick)
    words = f"{cell.broken} of {len(cell.images)} broken"
    look = {"ha": "right", "va": "top", "color": INK if cell.broken else SOFT, "size": HEADING - 3}
    annotate(axes, words, (1, 1), axes.transAxes, (-3, -2), **look)
