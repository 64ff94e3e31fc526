"""Loss and validation curves: one CSV file beside each checkpoint, and one figure of all trainings of a zoo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import MOST_TEXT, make_folder, open_file, write_file, writing
from bench.training.jobs import NEEDS

if TYPE_CHECKING:
    import pandas as pd

_PANEL = (3.4, 2.3)  # inches
BEFORE = "-before"  # suffix of the files with a training's initial weights and earlier curve
_COLOURS = {"loss": "#999999", "val error": "C3"}  # other curves use the colour cycle


def write_curve(path: Path, state: Mapping[str, Any], batch: int) -> None:
    """Write a training's curves as CSV (images seen, figure, value), after the curves that it continues."""
    import pandas as pd

    rows = [(step, "loss", value) for step, value in state["losses"]]
    rows += [(step, name, value) for step, figures in state["validations"] for name, value in figures.items()]
    tables = [pd.DataFrame([(step * batch, *row) for step, *row in rows], columns=["images", "figure", "value"])]
    earlier = path.with_stem(path.stem + BEFORE)
    if earlier.is_file():
        tables.insert(0, _read(earlier))
        tables[1]["images"] += tables[0]["images"].max()
    make_folder(path.parent)
    write_file(path, pd.concat(tables).to_csv(index=False))


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    with open_file(path, MOST_TEXT) as file:
        return pd.read_csv(file)


def draw_curves(folder: Path) -> Path | None:
    """Draw the curves of a folder into `curves.png`, one panel for each training; None if there are none."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, MaxNLocator

    names = sorted((p.stem for p in folder.glob("*.csv") if not p.stem.endswith(BEFORE)), key=_place)
    tables = {name: table for name in names if len(table := _read(folder / f"{name}.csv"))}
    if not tables:
        return None
    figures = dict.fromkeys(name for table in tables.values() for name in table["figure"])
    others = [name for name in figures if name not in _COLOURS]
    colours = _COLOURS | {name: f"C{number}" for number, name in enumerate(others)}
    columns = min(4, len(tables))
    rows = -(-len(tables) // columns)
    size = (_PANEL[0] * columns, _PANEL[1] * rows + 0.3)
    figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for panel in panels.flat[len(tables) :]:
        panel.set_axis_off()
    lines = {}
    for (name, table), panel in zip(tables.items(), panels.flat, strict=False):
        for curve, part in table.groupby("figure", sort=False):
            part = part.sort_values("images", kind="stable")
            mark = None if curve == "loss" else "."  # a single validation of a short training is no line
            (lines[curve],) = panel.plot(
                part.images / 1e6, part.value, color=colours[curve], lw=1.2, marker=mark, ms=4, label=curve
            )
        panel.set_title(name, loc="left", fontsize=9)
        panel.set_xlabel("million images seen", fontsize=8)
        panel.xaxis.set_major_locator(MaxNLocator(4))
        if (table.value > 0).all():
            panel.set_yscale("log")
            panel.yaxis.set_minor_locator(LogLocator(subs=(2, 3, 5)))
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter("{x:g}")
        panel.tick_params(which="both", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
    handles = [lines[name] for name in figures]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    path = folder / "curves.png"
    with writing(path) as file:
        figure.savefig(file, dpi=150)
    plt.close(figure)
    return path


def _place(name: str) -> tuple[int, str]:
    """Sort key of a training's panel: the order of the stages, then the name, which includes the method."""
    stage = name if name in NEEDS else name.partition("-")[0]
    return [*NEEDS, stage].index(stage), name
