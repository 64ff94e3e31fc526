"""Plan a sweep on many devices: `bench cost`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.shell import announce, app, console, refuse


@app.command()
def cost(
    preset: Annotated[str, typer.Argument(help="A preset from `bench list`, or the path of a .toml file.")],
    devices: Annotated[int, typer.Option(help="How many GPUs count.", min=1)],
    evaluations: Annotated[
        float | None, typer.Option(help="Evaluations a second of the purifiers' network on one of them.", min=1e-9)
    ] = None,
    classifications: Annotated[
        float | None, typer.Option(help="Images a second through the classifier on one of them.", min=1e-9)
    ] = None,
    perf: Annotated[
        Path | None, typer.Option(help="A perf.json of `nox -s perf`, made on one of them, instead of both.")
    ] = None,
    pair: Annotated[str | None, typer.Option(help="The networks of perf.json that are meant.")] = None,
    machines: Annotated[int, typer.Option(help="On how many machines they are (8 to a machine).", min=0)] = 0,
    draws: Annotated[
        float | None, typer.Option(help="Mean estimation draws of an image, where the rule stops early.", min=1)
    ] = None,
    purifiers: Annotated[str | None, typer.Option(help="As for `bench run`.")] = None,
    sigmas: Annotated[str | None, typer.Option(help="As for `bench run`.")] = None,
    images: Annotated[int | None, typer.Option(help="As for `bench run`.")] = None,
    n: Annotated[int | None, typer.Option(help="As for `bench run`.")] = None,
    block: Annotated[int | None, typer.Option(help="Draws of an image that are stored together.")] = None,
    batch: Annotated[int | None, typer.Option(help="As for `bench run`.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Project a sweep onto many GPUs: hours, blocks, network traffic; its store is tried out on this machine."""
    from bench.cli.cost_table import cost_table
    from bench.doctor.cost import project
    from bench.doctor.cost_inputs import CostError, load_of, rates_by_nfe, rates_of_perf
    from bench.doctor.cost_measured import measure
    from bench.plugins.registry import PluginError
    from bench.sweep import preset as presets
    from bench.sweep.plan import PlanError, resolve

    overrides = {k: v for k, v in locals().items() if k in presets.Preset.model_fields}
    try:
        chosen = presets.load(preset, overrides)
        announce(Path(preset), chosen, {name for name, value in overrides.items() if value is not None})
        named, classifier, _ = resolve(chosen)
        methods = [method for _, method in named]
        if perf is not None:
            rates = rates_of_perf(perf, pair, methods)
        elif evaluations is not None and classifications is not None:
            rates = rates_by_nfe(methods, chosen.sigmas, evaluations, classifications)
        else:
            raise CostError("give --evaluations and --classifications, measured on one device, or --perf perf.json")
        load, classes = load_of(chosen, methods, classifier, rates, devices, machines or -(-devices // 8), draws)
    except (presets.PresetError, PlanError, PluginError, CostError) as error:
        raise refuse(error) from error
    measured = measure(classes, load.n0, round(load.n), load.block, load.batch, 10_000)
    found = project(load, measured)
    if as_json:
        from dataclasses import asdict

        record = {**asdict(found), "hours": found.hours, "load": asdict(load), "measured": asdict(measured)}
        sys.stdout.write(json.dumps(record) + "\n")
    else:
        console.print(cost_table(load, measured, found))
