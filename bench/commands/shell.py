"""What all commands share: the application, the console, refusals, where runs lie."""

from __future__ import annotations

import sys
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape

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
