"""Certify the purifiers of a preset: `bench run`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.api import runs as api
from bench.cli.shell import FAILED, INTERRUPTED, announce, app, console, say
from bench.sweep import Preset


def with_preset_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `f(..., **fields)` one option for each field of `Preset`, by the field's name and description.

    Values stay text, which `Preset` parses and checks; a field that the user does not give is None.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *map(_parameter_of, Preset.model_fields)]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def _parameter_of(name: str) -> inspect.Parameter:
    """The option of one field."""
    field = Preset.model_fields[name]
    option = "--" + name.replace("_", "-")
    kind: Any = str | None
    if field.annotation is bool:
        kind, option = bool | None, f"{option}/--no-{option[2:]}"
    elif name in ("networks", "compute"):
        kind = list[str] | None
    text = " ".join(str(field.description).split())
    annotation = Annotated[kind, typer.Option(option, help=text, metavar=None)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


@app.command()
@with_preset_options
def run(
    preset: Annotated[
        str, typer.Argument(help="A preset from `bench list`, or the path of a .toml file.")
    ] = "embedded",
    out: Annotated[Path | None, typer.Option(help="Results folder (results/runs/NAME).")] = None,
    plots: Annotated[bool, typer.Option(help="Draw the pictures at the end.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the cells, draws, bytes and hours of the run, and count nothing.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Finish the running batches after this time, and export the counts.")
    ] = None,
    track: Annotated[
        str | None, typer.Option(help="Tell a tracker the progress and the figures: mlflow, wandb or trackio.")
    ] = None,
    **fields: Any,
) -> None:
    """Certify every purifier of a preset and draw the results. The same command continues an interrupted run.

    Every field of the preset has an option, which replaces its value. The exit status is 75 if --minutes ended the run.
    """
    certify_preset(preset, out, plots, dry_run, minutes, fields, track)


def certify_preset(
    preset: str,
    folder: Path | None,
    plots: bool,
    dry_run: bool,
    minutes: float | None,
    fields: Mapping[str, Any],
    track: str | None = None,
) -> None:
    """Run a preset with its options into a folder, as `bench run` does.

    Raises:
        typer.Exit: a cell failed, or Ctrl-C or SIGTERM ended the run.
        TimeOver: the time limit ended the run.
    """
    from bench.sweep import load_preset, resolve

    chosen = load_preset(preset, fields)
    # Networks are replaced role by role, so files that the preset names for the other roles are still announced.
    announce(Path(preset), chosen, {name for name, value in fields.items() if value is not None} - {"networks"})
    purifiers, *_ = resolve(chosen)
    families = {purifier.name: purifier.family for purifier in purifiers}
    folder = folder or api.RUNS / chosen.name
    if dry_run:
        from bench.doctor import describe_dry_run

        for line in describe_dry_run(chosen, folder):
            say(line)
        return
    from bench.api.answers import show
    from bench.cli.progress import ProgressDisplay
    from bench.cli.tables import summary_parts

    callbacks = api.trackers_of(track, folder, chosen)
    try:
        finished = api.run_into(folder, chosen, partial(ProgressDisplay, console, families), say, minutes, callbacks)
    except KeyboardInterrupt:
        say(f"interrupted: the finished counts are stored in {folder}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    show(summary_parts(finished.summary), console)
    if plots:
        from bench.cli.results import draw

        draw([finished], folder)
    if finished.errors:
        raise typer.Exit(FAILED)
