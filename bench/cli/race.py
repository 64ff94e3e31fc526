"""Race the purifiers of a preset within a budget: `bench race`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.api import racing, runs
from bench.cli.run import with_preset_options
from bench.cli.shell import FAILED, INTERRUPTED, announce, app, console, say


@app.command()
@with_preset_options
def race(
    radius: Annotated[float, typer.Option(help="L2 radius to certify, in [0,1] pixel units.")],
    preset: Annotated[
        str, typer.Argument(help="A preset from `bench list`, or the path of a .toml file.")
    ] = "embedded",
    out: Annotated[Path | None, typer.Option(help="Results folder (results/runs/NAME-race).")] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget: minutes of this command.")] = None,
    gpu_hours: Annotated[float | None, typer.Option(help="Budget: hours times devices.")] = None,
    draws: Annotated[int | None, typer.Option(help="Budget: draws of the whole race.")] = None,
    max_nfe: Annotated[float | None, typer.Option(help="Most network evaluations per purified image.")] = None,
    max_ms: Annotated[float | None, typer.Option(help="Most milliseconds per purified image.")] = None,
    max_joint_ms: Annotated[float | None, typer.Option(help="Most milliseconds per vote, of both.")] = None,
    max_gflops: Annotated[float | None, typer.Option(help="Most GFLOPs per vote, of purifier and classifier.")] = None,
    margin: Annotated[float, typer.Option(help="Difference that does not matter, percent points.")] = racing.MARGIN,
    plots: Annotated[bool, typer.Option(help="Draw the pictures at the end.")] = True,
    replay: Annotated[
        Path | None, typer.Option(help="Race on the counts of this finished run instead, many times.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Races of --replay.")] = 200,
    **fields: Any,
) -> None:
    """Find the purifier and σ that certify the most at a radius, within a budget. The same command continues a race.

    Candidates that are shown to be worse are dropped, and their budget moves to the others. The folder is a run with a
    part of its draws: `bench run PRESET --out FOLDER` completes it. Every field of the preset has an option.
    """
    from bench.api.answers import show
    from bench.racing import Budget, Limits
    from bench.sweep import load_preset, resolve

    if replay is not None:
        limits: dict[str, Any] = {
            "max_nfe": max_nfe,
            "max_ms": max_ms,
            "max_joint_ms": max_joint_ms,
            "max_gflops": max_gflops,
        }
        found = racing.replay_race(runs.load(replay), radius, margin=margin, repeats=repeats, **limits)
        show(racing.replay_parts(found), console)
        return
    asked = Limits(max_nfe, max_ms, max_joint_ms, max_gflops), Budget(draws, minutes, gpu_hours)
    chosen = load_preset(preset, fields)
    announce(Path(preset), chosen, {name for name, value in fields.items() if value is not None} - {"networks"})
    resolve(chosen)
    folder = out or runs.RUNS / f"{chosen.name}-race"
    try:
        raced = racing.race_into(folder, chosen, radius, margin, *asked, say, _report_round)
    except KeyboardInterrupt:
        say(f"interrupted: the finished counts are stored in {folder}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    show(racing.race_parts(raced.answer), console)
    if plots:
        from bench.cli.results import draw

        draw([raced.run], folder)
    if raced.run.errors:
        raise typer.Exit(FAILED)


def _report_round(race: Any) -> None:
    """Print a line about the round that has ended."""
    last, number = race.rounds[-1], len(race.rounds)
    gone = sum(dropped.round == number - 1 for dropped in race.dropped)
    say(
        f"round {number:>2}: {last.images:>5} images, {last.draws:>9,} draws, {last.seconds:6.0f} s, "
        f"{len(race.left):>3} candidates left{f', {gone} dropped' if gone else ''}"
    )
