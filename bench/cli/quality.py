"""Measure what certificates do not say of a run: `bench metrics`."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.shell import INTERRUPTED, announce, app, console, refuse, say


@app.command()
def metrics(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    images: Annotated[int, typer.Option(help="How many of its images, balanced over the classes.", min=2)] = 500,
    draws: Annotated[int, typer.Option(help="How many of the first estimation draws of each.", min=1)] = 1,
    only: Annotated[
        str | None, typer.Option(help="Comma-separated: perceptual, l2, transport, frechet, fid (all).")
    ] = None,
    perceptual: Annotated[
        str,
        typer.Option(help="lpips-alex, lpips-vgg, features (of a second classifier); auto: the first at hand."),
    ] = "auto",
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (the run's).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 is one per core, or per GPU (the run's).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    purifiers: Annotated[
        str | None,
        typer.Option(help="Comma-separated Python files of the run's purifiers: results run no code by themselves."),
    ] = None,
    classifier: Annotated[str | None, typer.Option(help="The Python file of its classifier, likewise.")] = None,
) -> None:
    """Measure how near purified images come to clean ones, on the very draws that a run certified."""
    from bench.cli.quality_table import metrics_table
    from bench.data import DataError
    from bench.engine.devices import choose_devices, prepare_device
    from bench.plugins.registry import PluginError
    from bench.quality.judges import judges
    from bench.quality.measurement import made_on, measure, setting
    from bench.quality.replay import MetricsError, chosen_images, planned, preset_of
    from bench.store.database import StoreError
    from bench.store.quality import KINDS, Metrics, read_metrics, write_metrics
    from bench.store.run import MANIFEST, read_run
    from bench.summary.names import display_names
    from bench.sweep.plan import PlanError
    from bench.sweep.run import start

    try:
        found, before = read_run(run), read_metrics(run)
        code = {"purifiers": purifiers, "classifier": classifier}
        preset = preset_of(found, code, device=device, workers=workers, data=data)
        announce(run / MANIFEST, preset, {"data"} if data else ())
        devices = choose_devices(preset.device, preset.workers)
        prepare_device(devices[0])
        made, pairs = planned(found, preset, devices[0].split(":")[0])
        chosen = chosen_images(made, images)
        wanted = [name.strip() for name in only.split(",")] if only else list(KINDS)
        at_hand, missing = judges(setting(made, chosen, perceptual, devices[0]), wanted)
    except (StoreError, MetricsError, PlanError, PluginError, DataError, ValueError) as error:
        raise refuse(error) from error
    for name, why in missing.items():
        console.print(f"[yellow]not measured:[/] {name}: {escape(why)}", highlight=False, soft_wrap=True)
    for name, judge in at_hand.items():
        say(f"{name}: {judge.network.name}")
    networks = {name: judge.network for name, judge in at_hand.items()}
    asked = Metrics(len(chosen), draws, networks, missing, made_on(devices[0], preset.precision))
    executor = start(made, devices, say)
    record = None
    try:
        with console.status("measuring") as status:
            for record in measure(found, pairs, made, executor, at_hand, asked, chosen, before, say):
                write_metrics(run, record)
                status.update(f"measured {len(record.cells)} of {len(pairs)} cells")
    except (MetricsError, BrokenExecutor) as error:
        raise refuse(error) from error
    except KeyboardInterrupt:
        say(f"interrupted: what was measured is stored in {run}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        executor.close()
    assert record is not None
    console.print(metrics_table(record, display_names(found.cells.values(), found.manifest.get("families", {}))))
    say(f"metrics in {run / 'metrics.json'}; `bench report {run}` shows them against certified accuracy")
