"""Long work on a borrowed GPU: commands that end in time, and that go on from the files that they returned."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.api.runs import RUNS
from bench.cli.run import certify_preset, with_preset_options
from bench.cli.shell import FAILED, INTERRUPTED, app, console, notice, refuse, say
from bench.errors import InputError, PurifyBenchError, TimeOver

_commands = typer.Typer(no_args_is_help=True, help="Long work on a borrowed GPU, in commands of minutes.")
app.add_typer(_commands, name="gpu")

_Archive = Annotated[
    Path | None,
    typer.Option(help="Folder for OUT in few files below 16 MiB; a command without OUT continues from it."),
]
_GPU_BATCH = 512  # with the recipes' 64 or 128, starting kernels takes longer than computing them
_NOT_RETURNED = ("run.sqlite*", "run.lock", "*.part")  # counts return as parquet, from which a run continues


@_commands.command()
def zoo(
    minutes: Annotated[float, typer.Option(min=0, help="Minutes of training, shared by all stages.")],
    dataset: Annotated[str, typer.Option(help="Data set with a recipe: mnist5k or cifar10.")] = "cifar10",
    stages: Annotated[str | None, typer.Option(help="Comma-separated stages (all that docs/gpu.md lists).")] = None,
    pause: Annotated[
        float | None, typer.Option(min=0, help="Pause after so many minutes of this command, for the next one.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of weights, cards and curves.")] = RUNS / "gpu-zoo",
    archive: _Archive = None,
    device: Annotated[str, typer.Option(help="auto (CUDA if there is a GPU), cpu, cuda or cuda:N.")] = "auto",
    batch: Annotated[
        int | None, typer.Option(min=1, help="Images of a step in timed stages (512 on a GPU, else the recipe's).")
    ] = None,
    compiled: Annotated[
        bool, typer.Option("--compile/--no-compile", help="Use torch.compile in timed stages.")
    ] = False,
    from_weights: Annotated[
        bool, typer.Option("--from-weights/--from-scratch", help="Begin with the bundled networks.")
    ] = True,
    scale: Annotated[float, typer.Option(help="Factor on the steps of the other stages; 0.01 for a trial.")] = 1.0,
    loss: Annotated[str | None, typer.Option(help="Distance of fine-tuning (the recipe's).")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the recipes'.")] = None,
    bf16: Annotated[
        bool | None, typer.Option(help="Train in bfloat16 autocast (if the device has instructions for it).")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again; ignore what OUT and the archive hold.")] = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Keep a consistency model that is not one; for trials.")
    ] = False,
) -> None:
    """Train the networks of a data set within a number of minutes. The same command continues.

    The exit status is 75 if the time was over before all stages were done, and 1 if a stage failed.
    """
    if scale <= 0:
        raise InputError(f"scale must be positive, got {scale}")
    from bench.engine.devices import has_bf16
    from bench.gpu.zoo import SHARES, Zoo
    from bench.sweep import stop_requests
    from bench.training.jobs import Job

    place = _device(device)
    on_gpu = place.startswith("cuda")
    autocast = has_bf16(place) if bf16 is None else bf16
    job = Job(dataset, str(out), data, loss, scale, seed, place, autocast, fresh=fresh, compiled=compiled)
    job = replace(job, unchecked=unchecked, batch=batch or (_GPU_BATCH if on_gpu else None))
    chosen = [s.strip() for s in stages.split(",")] if stages else list(SHARES)
    deadline = None if pause is None else time.monotonic() + 60 * pause
    with _returned(out, archive, "zoo", fresh) as keep, stop_requests(say, "the step is finished", deadline) as stop:
        try:
            failures = Zoo(job, chosen, minutes, from_weights).train(stop, say, keep)
        except TimeOver as over:
            if not stop.received:
                raise
            say(over)
            raise typer.Exit(INTERRUPTED) from over
        except (OSError, ValueError) as error:  # the plugin packages do not import bench.errors
            raise refuse(error) from error
    if failures:
        say("failed:", "; ".join(failures))
        raise typer.Exit(FAILED)


@_commands.command()
@with_preset_options
def sweep(
    preset: Annotated[str, typer.Argument(help="A preset from `bench list`, or the path of a .toml file.")],
    minutes: Annotated[float, typer.Option(min=0, help="Minutes of this command, with loading and tuning.")],
    out: Annotated[Path | None, typer.Option(help="Results folder (results/runs/NAME).")] = None,
    archive: _Archive = None,
    **fields: Any,
) -> None:
    """Certify the purifiers of a preset until the time is over, and export the counts. The same command continues.

    The exit status is 75 if the time was over before all draws were counted.
    """
    folder = out or RUNS / Path(preset).stem
    _device(fields["device"] or "auto")
    with _returned(folder, archive, "sweep"):
        try:
            certify_preset(preset, folder, False, False, minutes, fields)
        except TimeOver:
            raise
        except BaseException:  # the others leave counts that are not exported
            _export(folder)
            raise


@_commands.command()
def check(
    out: Annotated[Path, typer.Option(help="Folder for check.json and check.png.")] = RUNS / "gpu-check",
    only: Annotated[str | None, typer.Option(help="Comma-separated steps (all that docs/gpu.md lists).")] = None,
    small: Annotated[
        bool | None, typer.Option("--small/--full", help="The reduced form, in seconds (without a GPU).")
    ] = None,
) -> None:
    """Measure this machine's GPU: noise, votes, batches, resuming, and races, each beside its goal.

    The exit status is 1 if a step failed; a goal that is not reached is no failure.
    """
    from rich.table import Table

    from bench.api.answers import show
    from bench.gpu.check import check as run_steps

    reduced = _device("auto") == "cpu" if small is None else small
    steps = [name.strip() for name in only.split(",")] if only else []
    record = run_steps(out, steps, reduced, say)
    table = Table("figure", "measured", "goal", "reached", title="reduced form: no goal applies" if reduced else None)
    for row in record["goals"]:
        measured = "" if row["figure"] is None else f"{row['figure']:.3g}"
        table.add_row(row["title"], measured, row["goal"], {None: "", True: "yes", False: "no"}[row["reached"]])
    show([table, f"written: {out / 'check.json'} and {out / 'check.png'}"], console)
    if not reduced:
        say("please send check.json with an issue of the project: it holds figures and versions, no names or paths")
    if any("error" in step for step in record["steps"].values()):
        raise typer.Exit(FAILED)


@_commands.command(hidden=True)
def step(name: str, out: Path, small: bool = False) -> None:
    """One step of `check`, into a JSON file."""
    import json

    from bench.files import write_file
    from bench.gpu import steps

    write_file(out, json.dumps(getattr(steps, name)(small)))


@_commands.command()
def unpack(
    archive: Annotated[Path, typer.Argument(help="Folder that `--archive` wrote.")],
    out: Annotated[Path, typer.Argument(help="Folder for its content.")],
) -> None:
    """Unpack an archive of `gpu zoo` or `gpu sweep`, after a check of its checksums."""
    from bench.gpu.archive import unpack as unpack_archive

    if not [name for name in ("zoo", "sweep") if unpack_archive(archive, name, out)]:
        raise InputError(f"{archive} holds no archive of `bench gpu`; give the folder of --archive")
    say(f"unpacked into {out}")


@contextmanager
def _returned(folder: Path, archive: Path | None, name: str, fresh: bool = False) -> Iterator[Callable[[], None]]:
    """Unpack the archive into a folder that is missing or empty, and pack the folder at the end, however it comes.

    Gives a function that packs the folder now.
    """
    from bench.gpu import archive as files

    def filled() -> bool:
        return folder.is_dir() and any(folder.iterdir())

    def keep() -> None:
        if archive and filled():
            notice(f"{archive}: {files.describe(files.pack(folder, archive, name, _NOT_RETURNED))}")

    if archive and not fresh and not filled() and files.unpack(archive, name, folder):
        notice(f"continues from {archive}, unpacked into {folder}")
    try:
        yield keep
    finally:
        keep()


def _device(device: str) -> str:
    """The device of an option, and a word if `auto` finds no GPU; raises InputError."""
    from bench.engine.devices import choose_devices

    place = choose_devices(device, 1)[0]
    if device == "auto" and place == "cpu":
        notice("there is no GPU here: this computes on the CPU")
    return place


def _export(folder: Path) -> None:
    """Export the counts of a run that was interrupted, if it has a readable database."""
    from bench.store import export, read_run

    with suppress(PurifyBenchError):
        export(read_run(folder))
