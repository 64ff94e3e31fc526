"""Evidence that a run's certificates are sound: `bench attack`, `bench verify` and `bench bundle` (docs/trust.md)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench.api import attacking, reading
from bench.api import runs as api
from bench.cli.shell import (
    FAILED,
    INTERRUPTED,
    ClassifierOption,
    DataOption,
    DeviceOption,
    PurifiersOption,
    WorkersOption,
    app,
    console,
    notice,
    numbers,
    say,
)
from bench.errors import InputError

if TYPE_CHECKING:
    from rich.table import Table

    from bench.store.attacks import Attacks

UNCHECKED = 3  # exit status: no contradiction was found, but a part could not be checked


@app.command()
def attack(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    images: Annotated[int, typer.Option(help="Number of its images, balanced over the classes.", min=1)] = (
        attacking.IMAGES
    ),
    method: Annotated[
        str, typer.Option("--attack", "--method", help="A name or a Python file, `pgd:steps=40:draws=16`.")
    ] = "pgd",
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
    device: DeviceOption = None,
    workers: WorkersOption = None,
    data: DataOption = None,
    purifiers: PurifiersOption = None,
    classifier: ClassifierOption = None,
) -> None:
    """Try to break every certificate of a run, and find the smallest perturbation that changes each prediction.

    The same command continues. Ends with status 1 if a certificate is broken or a cell could not be attacked.
    """
    own = [method.partition(":")[0]] if method.partition(":")[0].endswith(".py") else []
    for file in filter(None, [*own, *(purifiers or "").split(","), *(classifier or "").split(",")]):
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


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="Results folder, or a bundle of `bench bundle`.")],
    share: Annotated[float, typer.Option(help="Share of the blocks of each cell to count again.")] = 0.01,
    seed: Annotated[int | None, typer.Option(help="Chooses the blocks (a new random one).", min=0)] = None,
    counts: Annotated[
        bool, typer.Option("--counts/--no-counts", help="Count blocks again, or only check figures against counts.")
    ] = True,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (the kind that the run had).")] = None,
    workers: WorkersOption = None,
    data: DataOption = None,
    networks: Annotated[
        list[str] | None, typer.Option(help="ROLE=NETWORK, repeatable: where this machine has the run's network.")
    ] = None,
    purifiers: PurifiersOption = None,
    classifier: ClassifierOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer, as JSON.")] = False,
    record: Annotated[Path | None, typer.Option(help="File for the answer with its date, to keep or send.")] = None,
    by: Annotated[str, typer.Option(help="Who verified, for the record.")] = "",
) -> None:
    """Verify a run without trusting it. Exit status 0: verified, 1: not reproduced, 3: a part cannot be checked."""
    from bench.records import as_json as to_json
    from bench.verify import FAILED as NOT_REPRODUCED
    from bench.verify import VERIFIED, write_verification

    roles = dict(text.split("=", 1) for text in networks or () if "=" in text)
    if len(roles) < len(networks or ()):
        raise InputError("--networks must be of the form ROLE=NETWORK, each role once")
    code = {"purifiers": purifiers, "classifier": classifier}
    where = {"device": device, "workers": workers, "data": data, "networks": roles or None}
    found = reading.verify(run, share, seed=seed, counts=counts, notify=notice, **where, **code)
    if as_json:
        sys.stdout.write(to_json(found))
    else:
        for line in found.lines():
            say(line)
    if record is not None:
        write_verification(record, found, by)
    if found.status != VERIFIED:
        raise typer.Exit(FAILED if found.status == NOT_REPRODUCED else UNCHECKED)


@app.command()
def bundle(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    out: Annotated[Path | None, typer.Option(help="The zip (RUN.zip beside the folder).")] = None,
) -> None:
    """Write a run as one zip that a reviewer can check: counts, manifest, hashes, figures, report, its limits."""
    path = out or run.resolve().with_suffix(".zip")
    try:
        digest = reading.bundle(run, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}); give another --out") from error
    say(f"bundle in {path} ({path.stat().st_size / 1e6:.1f} MB), SHA-256 {digest}")
    say(f"check it with `python -m bench verify {path.name}`; publish the hash to fix what was claimed")


@app.command()
def checksums(runs: Annotated[list[Path], typer.Argument(help="Results folders.")]) -> None:
    """List the files of runs with their SHA-256 as they are, for runs of earlier versions and files changed by hand.

    Commands that write into a run's folder list what they write. A checksum is no signature: see `bench verify`.
    """
    from bench.store import read_run
    from bench.store.checksums import SUMS, list_files, unchecked

    for run in runs:
        with unchecked():
            read_run(run)  # refuses a folder that holds no run, or a damaged one
        try:
            say(f"{run / SUMS} lists {list_files(run)} files")
        except OSError as error:
            raise InputError(f"{run / SUMS} cannot be written ({error}); allow writing, or list a copy") from error


def _table(attacks: Attacks) -> Table:
    """A row for each attacked cell."""
    from bench.api.grid import figure_table

    caption = (
        f"{attacks.images} images; {attacks.attack}, {attacks.restarts} restarts, {attacks.rounds} rounds. Broken: at "
        f"an image within the certified radius, {attacks.draws} fresh draws bound the class's probability below 1/2; "
        f"for all certificates of a cell together at level {attacks.level:g}. Expected: at most alpha of those tried. "
        "Medians of the L2 radii certified, and of the smallest at which an attack changed the prediction, which the "
        "rounds of doubling and bisection find in coarse steps"
    )
    columns = ("purifier", "σ", "tried", "broken", "expected ≤", "certified", "attacked", "seconds", "gradient")
    table = figure_table("Attacks on certificates", columns, caption)
    for row in attacks.table.to_dict("records"):
        figures = (str(row["tried"]), str(row["broken"]), f"{row['expected']:.2g}")
        radii = (f"{row['certified_median']:.3f}", f"{row['attacked_median']:.3f}", f"{row['seconds']:.0f}")
        table.add_row(escape(row["label"]), f"{row['sigma']:g}", *figures, *radii, row["gradient"])
    return table
