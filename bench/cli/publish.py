"""Publish runs: `bench board` and `bench export-hub` (docs/submitting.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.api import publishing
from bench.cli.shell import app, say
from bench.errors import InputError


@app.command()
def board(
    runs: Annotated[list[Path], typer.Argument(help="Results folders, and bundles of `bench bundle`.")],
    out: Annotated[Path, typer.Option(help="Folder of the site.")] = Path("site") / "board",
    verified: Annotated[
        list[Path] | None, typer.Option(help="Record of `bench verify RUN --record FILE`; repeatable.")
    ] = None,
) -> None:
    """Write a static leaderboard of runs: who leads at a radius and a budget, who is tied, and the evidence."""
    try:
        page = publishing.board(runs, out, verified or ())
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); give another --out") from error
    say(f"leaderboard in {page}; the folder opens from disk, and any static host can serve it")


@app.command(name="export-hub")
def export_hub(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    out: Annotated[Path, typer.Option(help="Folder of the data set.")],
) -> None:
    """Write a run as a data set for the Hugging Face Hub: a card, parquet files, the bundle. Nothing is sent."""
    try:
        card = publishing.export_hub(run, out)
    except OSError as error:
        raise InputError(f"{out} cannot be written ({error}); give another --out") from error
    say(f"data set in {card.parent}; read {card}, add a licence, and `hf upload OWNER/NAME {out} --repo-type dataset`")
