"""Choose sigma and purifier on validation images, and read the choice on others."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from bench.api import reading
from bench.api import runs as api
from bench.cli.shell import app, console, numbers

if TYPE_CHECKING:
    import pandas as pd

_READING = (
    "Chosen on: certified accuracy where it was chosen. Certified: on the other images, without a part in the choice. "
    "Envelope: the best on those images themselves, as papers report it, which nobody can deploy. Cost: envelope minus "
    "certified, percentage points (Newcombe's 95 % interval)."
)


@app.command()
def choose(
    chosen_on: Annotated[
        Path, typer.Argument(help="A run on validation images (`bench run PRESET --split val --images N`).")
    ],
    read_on: Annotated[Path, typer.Argument(help="The run of the same preset on test images.")],
    radii: Annotated[str | None, typer.Option(help="Comma-separated L2 radii (those of the preset).")] = None,
    each: Annotated[bool, typer.Option(help="Choose the sigma of each purifier, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Every figure, as JSON.")] = False,
) -> None:
    """Choose sigma and purifier on one run's images, and tell what they certify on another's."""
    at = numbers("radii", radii) if radii else None
    found = reading.choose(api.load(chosen_on), api.load(read_on), at)
    if as_json:
        sys.stdout.write(found.to_json(orient="records", double_precision=15, indent=1) + "\n")
        return
    from bench.analysis.choice import ANY

    console.print(_table("Purifier and σ chosen beforehand, for each radius", found[found["among"] == ANY]))
    if each:
        for radius, part in found[found["among"] != ANY].groupby("radius", sort=False):
            rows = part.sort_values("accuracy", ascending=False, kind="stable")
            console.print(_table(f"σ of each purifier chosen beforehand, for radius {radius:g}", rows))
    console.print(_READING, highlight=False)


def _table(title: str, rows: pd.DataFrame) -> Table:
    from bench.api.grid import figure_table
    from bench.summary.format import change_text, images_text, percent_interval

    columns = ("radius", "purifier", "σ", "chosen on %", "certified % [95 %]", "envelope %", "by", "cost [95 %]")
    seen, read = (images_text(rows[name]) for name in ("seen_images", "images"))
    table = figure_table(f"{title}: {seen} to choose, {read} to read", columns)
    for row in rows.to_dict("records"):
        alike = (row["name"], row["sigma"]) == (row["best_name"], row["best_sigma"])
        table.add_row(
            f"{row['radius']:g}",
            escape(row["name"]),
            f"{row['sigma']:g}",
            f"{100 * row['seen']:.1f}",
            escape(f"{100 * row['accuracy']:.1f} {percent_interval(row['low'], row['high'])}"),
            f"{100 * row['best']:.1f}",
            escape(f"{row['best_name']}, σ {row['best_sigma']:g}"),
            "the same" if alike else escape(change_text(row["cost"], row["cost_low"], row["cost_high"])),
        )
    return table
