"""Try to break the certificates of a run: `bench attack`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench.api import attacking
from bench.api import runs as api
from bench.cli.shell import FAILED, INTERRUPTED, app, console, notice, numbers, say

if TYPE_CHECKING:
    from rich.table import Table

    from bench.store.attacks import Attacks


@app.command()
def attack(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    images: Annotated[int, typer.Option(help="Number of its images, balanced over the classes.", min=1)] = (
        attacking.IMAGES
    ),
    method: Annotated[str, typer.Option(help="The attack: pgd:steps=40:draws=16.")] = "pgd",
    steps: Annotated[int | None, typer.Option(help="Steps of each attempt; short for pgd:steps=N.", min=1)] = None,
    restarts: Annotated[int, typer.Option(help="Attempts within each certified radius.", min=1)] = attacking.RESTARTS,
    rounds: Annotated[
        int, typer.Option(help="Steps of the search for the smallest radius that changes a prediction.", min=0)
    ] = attacking.ROUNDS,
    draws: Annotated[int, typer.Option(help="Fresh draws of a verdict.", min=1)] = attacking.DRAWS,
    level: Annotated[
        float, typer.Option(help="Probability that any certificate of a cell is wrongly called broken.")
    ] = attacking.LEVEL,
    only: Annotated[str | None, typer.Option(help="Comma-separated names of purifiers (all).")] = None,
    sigma: Annotated[str | None, typer.Option(help="Comma-separated noise levels (all).")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (the run's).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 is one per core, or per GPU (the run's).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    purifiers: Annotated[
        str | None,
        typer.Option(help="Comma-separated Python files of the run's purifiers: results run no code by themselves."),
    ] = None,
    classifier: Annotated[str | None, typer.Option(help="The Python file of its classifier.")] = None,
) -> None:
    """Try to break every certificate of a run, and find the smallest perturbation that changes each prediction.

    The same command continues. Ends with status 1 if a certificate is broken or a cell could not be attacked.
    """
    for file in filter(None, [*(purifiers or "").split(","), classifier or ""]):
        notice(f"runs code of {file}")
    try:
        with console.status("attacking") as status:
            found = attacking.attack(
                api.load(run),
                images=images,
                method=method if steps is None else f"{method}:steps={steps}",
                restarts=restarts,
                rounds=rounds,
                draws=draws,
                level=level,
                only=only.split(",") if only else None,
                sigmas=numbers("sigma", sigma) if sigma else None,
                device=device,
                workers=workers,
                data=data,
                purifiers=purifiers,
                classifier=classifier,
                notify=say,
                progress=lambda done: status.update(f"attacked {len(done.cells)} cells"),
            )
    except KeyboardInterrupt:
        say(f"interrupted: the attacked cells are stored in {run}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    console.print(_table(found))
    say(f"attacks in {run / 'attack.json'}; `bench report {run}` and `bench plot {run}` show them")
    if found.missing or any(cell.broken for cell in found.cells):
        raise typer.Exit(FAILED)


def _table(attacks: Attacks) -> Table:
    """A row for each attacked cell."""
    from bench.api.grid import figure_table

    caption = (
        f"{attacks.images} images; {attacks.attack}, {attacks.restarts} restarts, {attacks.rounds} rounds. Broken: at "
        f"an image within the certified radius, {attacks.draws} fresh draws bound the class's probability below 1/2; "
        f"for all certificates of a cell together at level {attacks.level:g}. Expected: at most alpha of those tried. "
        "Medians of the L2 radii certified, and of the smallest at which an attack changed the prediction"
    )
    columns = ("purifier", "σ", "tried", "broken", "expected ≤", "certified", "attacked", "seconds", "gradient")
    table = figure_table("Attacks on certificates", columns, caption)
    for row in attacks.table.to_dict("records"):
        figures = (str(row["tried"]), str(row["broken"]), f"{row['expected']:.2g}")
        radii = (f"{row['certified_median']:.3f}", f"{row['attacked_median']:.3f}", f"{row['seconds']:.0f}")
        table.add_row(escape(row["label"]), f"{row['sigma']:g}", *figures, *radii, row["gradient"])
    return table
