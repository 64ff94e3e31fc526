"""Mean draws against the accuracy lost: one mark for each stopping rule of the arena, a panel for each log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.plots.labels import Name, place_names
from bench.plots.style import Page, styled

_GROUPS = {  # colour, marker and words of each group
    "ours": ("#C23A1E", "o", "this project, for known radii"),
    "fixed N": ("#5B6470", "s", "Cohen et al., fixed N"),
    "anytime": ("#1F6FB2", "^", "anytime: confidence sequences and e-processes"),
    "stages": ("#8A6A12", "D", "stages: ISS, adaptive sampling"),
}
_LEFT, _GAP, _HEIGHT, _HEADING, _AXIS = 0.62, 0.55, 3.6, 0.3, 0.55
_OPEN = "grid decided"  # drawn as hollow marks
_MOST = 12.0  # points
_FLOOR = 0.02  # points; smaller losses are drawn here, because the axis is logarithmic


class Mark(NamedTuple):
    """A rule: its name, group, mean draws, and largest loss of accuracy over the radii, in points."""

    rule: str
    group: str
    draws: float
    lost: float


@styled
def draws_and_losses(panels: Mapping[str, Sequence[Mark]], alpha: float, radii: Sequence[float]) -> Figure:
    """The picture, without losses beyond its axes and rules that run to the horizon: they take 100,000 draws."""
    footer = (
        f"Largest loss of certified accuracy over the radii {', '.join(f'{r:g}' for r in radii)} against Cohen's rule "
        f"with N = 100,000, in points, at alpha = {alpha:g}. Losses below {_FLOOR:g} are drawn there. Hollow: "
        "anytime rules that stop when their evidence decides every radius. Filled: when it proves or `tight` gives up "
        "every radius. Draws are simulated on images with the published pA."
    )
    page = Page(
        "Draws that a stopping rule takes, and accuracy that it loses", "Nearer to the lower left is better", [footer],
        _HEADING + _HEIGHT + _AXIS,
    )  # fmt: skip
    page.legend([
        Line2D([], [], ls="", marker=marker, color=colour, mec="white", ms=6.5, label=words)
        for colour, marker, words in _GROUPS.values()
    ])  # fmt: skip
    width = (page.WIDTH - _LEFT - page.MARGIN - (len(panels) - 1) * _GAP) / len(panels)
    for i, (title, marks) in enumerate(panels.items()):
        left = _LEFT + i * (width + _GAP)
        page.heading(left, 0, title)
        axes = page.axes(left, _HEADING, width, _HEIGHT)
        axes.set(xscale="log", yscale="log", xlabel="mean draws per image", xlim=(900, 200_000), ylim=(0.015, _MOST))
        axes.set_ylabel("accuracy lost, points")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:g}")
        shown = [m for m in marks if not m.rule.endswith("to the horizon") and m.lost < _MOST]
        for m in shown:
            colour, marker, _ = _GROUPS[m.group]
            fill, edge = ("white", colour) if m.rule.endswith(_OPEN) else (colour, "white")
            axes.plot(m.draws, max(m.lost, _FLOOR), marker=marker, mfc=fill, mec=edge, ms=6.8, zorder=5)
        points = axes.transData.transform([(m.draws, max(m.lost, _FLOOR)) for m in shown])
        names = [
            Name(x, y, _short(m.rule), _GROUPS[m.group][0]) for m, (x, y) in zip(shown, points.tolist(), strict=True)
        ]
        none = np.zeros((0, 2, 2))
        place_names(axes, names, none, none)
    return page.figure


def _short(rule: str) -> str:
    """The name beside a mark: without the ending, which the mark tells."""
    name = rule.split(":")[0].replace("`", "").replace("cohen N", "N").replace("input-specific (ISS), loss", "ISS")
    return name.replace("e-process, learned prior", "learned prior").replace(", anytime", "")
