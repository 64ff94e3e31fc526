"""What all commands share: the application, the console, refusals, where runs lie."""

from __future__ import annotations

import sys
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from bench.sweep.preset import Preset

app = typer.Typer(
    name="bench",
    help="Which diffusion purifier for this radius and this budget, and how sure are we?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(width=None if sys.stdout.isatty() else 120)  # a log is not cut at 80 columns
RUNS = Path("results") / "runs"
REFERENCE = Path("results") / "embedded"

FAILED, REFUSED, INTERRUPTED = 1, 2, 130


def refuse(message: object) -> typer.Exit:
    """Print an error and what to do; the exit status to raise."""
    Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {escape(str(message))}", highlight=False)
    return typer.Exit(REFUSED)


def notice(*words: object) -> None:
    """Print a line that is no result, beside the results."""
    Console(stderr=True).print(*words, markup=False, highlight=False, soft_wrap=True)


def say(*words: object) -> None:
    """Print a line as it is: names and paths may look like markup."""
    console.print(*words, markup=False, highlight=False, soft_wrap=True)


def announce(file: Path, chosen: Preset, overridden: Collection[str]) -> None:
    """Say what code of files is about to run, and which files a preset reads from outside of its folder.

    Parameters:
        file: where the preset stands: its own, or the manifest of a run. One that comes with the project has none.
        overridden: its fields that the user named instead.
    """
    from bench.plugins.trust import files_outside

    for plugin in (chosen.classifier, *chosen.purifiers):
        if plugin.name.endswith(".py"):
            notice(f"runs code of {plugin.name}")
    outside = list(files_outside(file, chosen.model_dump(), overridden)) if file.suffix else []
    if outside:
        notice(f"{file} reads files outside of its folder: {', '.join(map(str, outside))}")
