"""Loss and validation curves of a zoo's trainings: one CSV beside each checkpoint, one picture of all."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "curves.png"
PANEL = (3.4, 2.5)  # inches


def write_curve(path: Path, state: Mapping[str, Any], batch: int) -> None:
    """The curves of a training's state as CSV: images seen, figure, value."""
    losses = [(step * batch, "loss", value) for step, value in state["losses"]]
    validations = [(s * batch, name, value) for s, figures in state["validations"] for name, value in figures.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("images", "figure", "value"))
        rows.writerows(losses + validations)


def draw_curves(folder: Path) -> Path | None:
    """Draw every curve of a folder, a panel each, into `curves.png`; None where there is no curve."""
    import matplotlib.pyplot as plt
    import pandas as pd
    from matplotlib.ticker import LogLocator

    tables = {path.stem: pd.read_csv(path) for path in sorted(folder.glob("*.csv"))}
    tables = {name: table for name, table in tables.items() if len(table)}
    if not tables:
        return None
    columns = min(3, len(tables))
    rows = -(-len(tables) // columns)
    size = (PANEL[0] * columns, PANEL[1] * rows)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for panel in panels.flat[len(tables) :]:
        panel.set_axis_off()
    for (name, table), panel in zip(tables.items(), panels.flat, strict=False):
        for number, (what, part) in enumerate(table.groupby("figure", sort=False)):
            colour = "#999999" if what == "loss" else f"C{number - 1}"
            panel.plot(part.images / 1e6, part.value, color=colour, lw=1.2, label=what)
        panel.set_title(name, loc="left", fontsize=9)
        panel.set_xlabel("million images seen", fontsize=8)
        if (table.value > 0).all():
            panel.set_yscale("log")
            panel.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
            for write in (panel.yaxis.set_major_formatter, panel.yaxis.set_minor_formatter):
                write(lambda value, _: f"{value:g}")
        panel.tick_params(which="both", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=7)
    path = folder / NAME
    figure.savefig(path, dpi=150)
    plt.close(figure)
    return path
