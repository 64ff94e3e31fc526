"""Measure the quality of purified images: `bench metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from bench.cli.shell import (
    INTERRUPTED,
    ClassifierOption,
    DataOption,
    DeviceOption,
    PurifiersOption,
    WorkersOption,
    announce,
    app,
    console,
    say,
)


@app.command()
def metrics(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    images: Annotated[int, typer.Option(help="Number of its images, balanced over the classes.", min=2)] = 500,
    draws: Annotated[int, typer.Option(help="Number of estimation draws of each.", min=1)] = 1,
    only: Annotated[
        str | None, typer.Option(help="Comma-separated: perceptual, imagenet, l2, transport, frechet, fid (all).")
    ] = None,
    perceptual: Annotated[
        str,
        typer.Option(help="lpips-alex, lpips-vgg, features (of a second classifier); auto: the first at hand."),
    ] = "auto",
    device: DeviceOption = None,
    workers: WorkersOption = None,
    data: DataOption = None,
    purifiers: PurifiersOption = None,
    classifier: ClassifierOption = None,
) -> None:
    """Measure the distance of purified to clean images, on the draws that a run certified."""
    from bench.cli.tables import metrics_table
    from bench.engine.devices import choose_devices, prepare_device
    from bench.quality import chosen_images, environment, load_metrics, measure, reference_of
    from bench.store import MANIFEST, read_run
    from bench.store.quality import KINDS, Metrics, read_metrics, write_metrics
    from bench.summary.names import display_names
    from bench.sweep import planned, preset_of, start

    found, before = read_run(run), read_metrics(run)
    code = {"purifiers": purifiers, "classifier": classifier}
    preset = preset_of(found, code, device=device, workers=workers, data=data)
    announce(run / MANIFEST, preset, {"data"} if data else ())
    devices = choose_devices(preset.device, preset.workers)
    prepare_device(devices[0])
    plan, pairs = planned(found, preset, devices[0].split(":")[0])
    chosen = chosen_images(plan, images)
    wanted = [name.strip() for name in only.split(",")] if only else list(KINDS)
    available, missing = load_metrics(reference_of(plan, chosen, perceptual, devices[0]), wanted)
    for name, reason in missing.items():
        console.print(f"[yellow]not measured:[/] {name}: {escape(reason)}", highlight=False, soft_wrap=True)
    for name, metric in available.items():
        say(f"{name}: {metric.network.name}")
    networks = {name: metric.network for name, metric in available.items()}
    request = Metrics(len(chosen), draws, networks, missing, environment(devices[0], preset.precision))
    record = None
    try:
        with start(plan, devices, say) as executor, console.status("measuring") as status:
            for record in measure(found, pairs, plan, executor, available, request, chosen, before, say):
                write_metrics(run, record)
                status.update(f"measured {len(record.cells)} of {len(pairs)} cells")
    except KeyboardInterrupt:
        say(f"interrupted: the measured cells are stored in {run}; the same command continues")
        raise typer.Exit(INTERRUPTED) from None
    assert record is not None
    console.print(metrics_table(record, display_names(found.cells.values(), found.manifest.get("families", {}))))
    say(f"metrics in {run / 'metrics.json'}; `bench report {run}` shows them against certified accuracy")
