"""Certify: `bench run`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.shell import FAILED, INTERRUPTED, RUNS, announce, app, console, refuse, say

PurifiersOption = Annotated[
    str | None, typer.Option(help="Comma-separated names (`pf-ode:steps=8`) or paths of Python files.")
]


@app.command()
def run(
    preset: Annotated[
        str, typer.Argument(help="A preset from `bench list`, or the path of a .toml file.")
    ] = "embedded",
    purifiers: PurifiersOption = None,
    classifier: Annotated[str | None, typer.Option(help="A classifier, as for --purifiers.")] = None,
    sigmas: Annotated[str | None, typer.Option(help="Comma-separated noise levels, in [0,1] pixel units.")] = None,
    images: Annotated[int | None, typer.Option(help="How many test images, balanced over the classes.")] = None,
    certifier: Annotated[
        str | None,
        typer.Option(
            help="cohen, or a sequential rule: tight, parity, half-point, fast or acr; also anytime, two-sided, "
            "multi-class, randomised."
        ),
    ] = None,
    label_aware: Annotated[
        bool | None, typer.Option("--label-aware", help="Stop images whose selected class is wrong (sequential rules).")
    ] = None,
    n0: Annotated[int | None, typer.Option(help="Draws that choose the class.")] = None,
    n: Annotated[int | None, typer.Option(help="Draws that bound its probability (fixed rules).")] = None,
    n_max: Annotated[int | None, typer.Option(help="Most draws of a sequential rule, instead of its own.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Probability that a certificate is wrong.")] = None,
    radii: Annotated[str | None, typer.Option(help="Comma-separated L2 radii that tables and fronts read.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the noise.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="Of the purifiers' networks: fp32, tf32, bf16, fp16 or auto.")
    ] = None,
    channels_last: Annotated[
        str | None, typer.Option(help="Images with their channels innermost: true, false or auto.")
    ] = None,
    compile: Annotated[
        str | None, typer.Option(help="no, default, reduce-overhead (CUDA graphs), max-autotune or auto.")
    ] = None,
    rows: Annotated[str | None, typer.Option(help="That a compiled network sees at once, or auto.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 is one per core, or per GPU.")] = None,
    executor: Annotated[str | None, typer.Option(help="local, or ray (several machines: docs/cluster.md).")] = None,
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster, or auto; without it, ray is of this machine alone.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Draws that go through the networks together, or auto.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    out: Annotated[Path | None, typer.Option(help="Results folder (results/runs/PRESET).")] = None,
    plots: Annotated[bool, typer.Option(help="Draw the pictures afterwards.")] = True,
) -> None:
    """Certify every purifier of a preset, and draw what was found. Run again, it continues where it was."""
    from bench.sweep import preset as presets

    overrides = {k: v for k, v in locals().items() if k in presets.Preset.model_fields}
    try:
        chosen = presets.load(preset, overrides)
    except presets.PresetError as error:
        raise refuse(error) from error
    from bench.plugins.registry import PluginError
    from bench.sweep.plan import PlanError, resolve

    announce(Path(preset), chosen, {name for name, value in overrides.items() if value is not None})
    try:
        resolve(chosen)
    except (PluginError, PlanError) as error:
        raise refuse(error) from error
    from bench import data as images_of
    from bench.cli.progress import ProgressDisplay, results_table
    from bench.store.database import StoreError
    from bench.store.run import read_run
    from bench.summary.summary import summarise
    from bench.sweep.run import run as run_preset
    from bench.sweep.run import writing_into

    folder = out or RUNS / chosen.name
    try:
        errors = run_preset(chosen, folder, partial(ProgressDisplay, console), say)
        found = summarise([read_run(folder)])
        with writing_into(folder):
            found.table.to_csv(folder / "summary.csv", index=False)
    except KeyboardInterrupt:
        say(f"interrupted: what was counted is stored in {folder}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    except (ValueError, RuntimeError, PlanError, images_of.DataError, StoreError) as error:
        raise refuse(error) from error
    console.print(results_table(found))
    if plots:
        from bench.cli.results import draw

        draw([folder], folder)
    if errors:
        raise typer.Exit(FAILED)
