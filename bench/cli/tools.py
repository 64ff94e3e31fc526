"""Imported logs, boundaries of sequential rules, lists, training, checks of this machine."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from bench.api.runs import RUNS
from bench.cli.shell import FAILED, INTERRUPTED, app, console, numbers, refuse, say
from bench.errors import InputError
from bench.files import read_json

if TYPE_CHECKING:
    from bench.training.jobs import Job

_ZOOS = Path("results") / "zoos"


@app.command("import")
def import_(
    log: Annotated[Path, typer.Argument(help="A log in the format of locuslab/smoothing.")],
    sigma: Annotated[float, typer.Option(help="Noise level that the log was made with.")],
    name: Annotated[str, typer.Option(help="Its name in tables and plots.")],
    dataset: Annotated[str, typer.Option(help="Its data set: cifar10, imagenet, ...")],
    nfe: Annotated[float | None, typer.Option(help="Network evaluations per image, for the plots.")] = None,
    n: Annotated[int, typer.Option(help="Estimation draws of the log.")] = 100_000,
    alpha: Annotated[float, typer.Option(help="Alpha of the log's bound.")] = 0.001,
    out: Annotated[Path, typer.Option(help="Results folder to add it to.")] = RUNS / "published",
) -> None:
    """Store a published log (radii only), so that tables and plots show it beside measured runs."""
    from bench.certify.base import MOST_DRAWS

    if (
        not 0 < sigma < math.inf
        or not 1 <= n <= MOST_DRAWS
        or not 0 < alpha < 1
        or (nfe is not None and not 0 <= nfe < math.inf)
    ):
        raise InputError(
            f"sigma must be positive, n from 1 to {MOST_DRAWS:,}, alpha between 0 and 1 and nfe at least 0"
        )
    from bench.store.imported import import_log

    for line in import_log(log, out, name, dataset, sigma, nfe, n, alpha):
        console.print(f"[yellow]repaired:[/] {line}")
    say(f"stored {name!r} in {out}; `bench summary {out}` shows it")


@app.command()
def boundaries(
    sigma: Annotated[float, typer.Option(help="Noise level, in [0,1] pixel units.")],
    radii: Annotated[str, typer.Option(help="Comma-separated L2 radii that the rule decides.")],
    certifier: Annotated[str, typer.Option(help="tight, parity, half-point, fast or acr.")] = "tight",
    alpha: Annotated[float, typer.Option(help="Probability that a certificate is wrong.")] = 0.001,
    n_max: Annotated[int | None, typer.Option(help="Most draws, instead of the rule's own.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All looks and boundaries, as JSON.")] = False,
) -> None:
    """Print a sequential rule's looks, boundaries and exact crossing probabilities, for anyone to check."""
    from dataclasses import asdict

    from bench.api.grid import figure_table
    from bench.certify import Sequential, rules
    from bench.names import nearest

    if certifier not in rules.SEQUENTIAL:
        raise InputError(nearest("certifier", certifier, rules.SEQUENTIAL))
    constants = {"n0": 100, "block": 100, "alpha": alpha, "n_max": n_max}  # n0 and block do not move boundaries
    rule = rules.of_sweep({"certifier": certifier, "radii": numbers("radii", radii), **constants}, sigma)
    assert isinstance(rule, Sequential)
    found = rule.boundaries
    if as_json:
        record = {"certifier": certifier, "sigma": sigma, "alpha": alpha, "constants": asdict(rule.constants)}
        sys.stdout.write(json.dumps({**record, **found.as_dict()}) + "\n")
        return
    title = f"{certifier} at sigma = {sigma:g}, alpha = {alpha:g}: {len(found.looks)} looks"
    columns = "radius", "threshold of pA", "crossing probability", "first look that can certify", "hits needed there"
    table = figure_table(title, columns)
    for j, radius in enumerate(found.radii):
        possible = [k for k, n in enumerate(found.looks) if found.upper[j, k] <= n]
        first = (str(found.looks[possible[0]]), str(found.upper[j, possible[0]])) if possible else ("never", "")
        table.add_row(f"{radius:g}", f"{found.thresholds[j]:.6f}", f"{found.crossing[j]:.3e}", *first)
    console.print(table)


@app.command("list")
def list_() -> None:
    """List presets, purifiers, networks, classifiers, data sets, and runs with their checks and audits."""
    import dataclasses

    from rich.table import Table

    from bench import data
    from bench.api import reading
    from bench.sweep import preset
    from purifiers.nets.hub.cards import bundled
    from purifiers.nets.hub.known import NETWORKS

    table = Table(title="Purifiers", pad_edge=False)
    for column in ("name", "family", "networks", "parameters", "NFE", "source"):
        table.add_column(column, overflow="fold")
    for name, plugin in sorted(reading.purifiers().items()):
        purifier = plugin()
        parameters = ", ".join(f"{f.name}={f.default}" for f in dataclasses.fields(plugin))
        nfe = "measured" if purifier.nfe() is None else str(purifier.nfe())
        table.add_row(name, purifier.family, ", ".join(purifier.networks), parameters, nfe, purifier.source)
    console.print(table)
    if stored := _stored_runs():
        runs = Table(title="Runs", pad_edge=False)
        for column in ("folder", "cells", "failed", "checks and audit"):
            runs.add_column(column, overflow="fold")
        for row in stored:
            runs.add_row(*map(escape, row))
        console.print(runs)
    for title, names in (
        ("Networks, bundled", bundled()),
        ("Networks, published (docs/networks.md)", list(NETWORKS)),
        ("Classifiers", sorted(reading.classifiers())),
        ("Data sets", sorted(data.DATASETS)),
        ("Presets", preset.names()),
    ):
        console.print(f"[bold]{title}:[/] {', '.join(names)}")


def _stored_runs() -> list[tuple[str, str, str, str]]:
    """Folder, cells, failed cells, and the evidence of soundness of every exported run here."""
    from bench.store import MANIFEST
    from bench.summary.trust import audit_text

    rows = []
    for path in sorted({*RUNS.glob(f"*/{MANIFEST}"), *RUNS.parent.glob(f"*/{MANIFEST}")}):
        try:
            manifest = read_json(path)
            failed = [cell["key"] for cell in manifest["cells"] if cell["error"]]
            sound = [cell["key"] for cell in manifest["cells"] if not cell["error"]]
            text = audit_text(manifest, sound)[0] if sound else ""
            rows.append((str(path.parent), str(len(sound) + len(failed)), str(len(failed)), text))
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            rows.append((str(path.parent), "", "", f"its manifest cannot be read ({type(error).__name__})"))
    return rows


@app.command()
def train(
    dataset: Annotated[
        str, typer.Option(help="Data set with a recipe, mnist5k or cifar10; or folder or parquet, for own images.")
    ] = "mnist5k",
    stages: Annotated[str | None, typer.Option(help="Comma-separated stages (all).")] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Distance of fine-tuning: perceptual, lpips, features, imagenet, l1 or l2 (the recipe's)."),
    ] = None,
    scale: Annotated[float, typer.Option(help="Factor on the recipes' lengths; 0.01 for a trial.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed, instead of the recipes'.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    bf16: Annotated[
        bool | None, typer.Option(help="Train in bfloat16 autocast (if the device has instructions for it).")
    ] = None,
    jobs: Annotated[int | None, typer.Option(help="Stages that train in parallel (one per core).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels to which own images are cut and scaled.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the weights (the bundled ones; results/zoos/NAME of own images).")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop and save each stage after this time; the same command continues.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again; ignore checkpoints.")] = False,
    onward: Annotated[
        bool, typer.Option("--from-weights", help="Begin with the weights in the stages' files.")
    ] = False,
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Use torch.compile.")] = False,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Keep a consistency model that is not one; for trials.")
    ] = False,
    unpurified: Annotated[
        bool,
        typer.Option("--unpurified", help="Train classifier-ft on images as they are: its control (with --out)."),
    ] = False,
    sigmas: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated noise levels of noisy-classifier or classifier-ft (the recipe's). A network for one "
            "alone is called STAGE-SIGMA; of several, it needs --out."
        ),
    ] = None,
) -> None:
    """Train the networks of a data set: classifiers, DDPM, EDM, consistency model and fine-tunings.

    The same command continues an interrupted training (Ctrl-C, at any step). Checkpoints and curves are in
    results/training, or in OUT/training. A stage whose start is not in OUT starts from the bundled network.
    """
    if scale <= 0:
        raise InputError(f"scale must be positive, got {scale}")
    from bench.data import OWN
    from bench.engine.devices import has_bf16
    from bench.training import zoo
    from bench.training.jobs import Job
    from bench.training.stage import Refused

    if dataset in OWN and out is None:
        out = _ZOOS / Path(data or "").expanduser().resolve().name
    folder = str(out) if out else None
    autocast = has_bf16(device) if bf16 is None else bf16
    how = loss, scale, seed, device, autocast, minutes, fresh, compiled, onward, unchecked
    levels = tuple(numbers("sigmas", sigmas)) if sigmas else None
    job = Job(dataset, folder, data, *how, size=size, unpurified=unpurified, sigmas=levels)
    chosen = [s.strip() for s in stages.split(",")] if stages else None
    try:
        zoo.train(job, chosen, jobs, say)
    except Refused:
        _offer(job)  # with the other networks
        raise
    except KeyboardInterrupt as interrupted:
        say(str(interrupted) or "interrupted at once; the same command continues from the last saved states")
        raise typer.Exit(INTERRUPTED) from None
    except (OSError, ValueError, FloatingPointError) as error:  # the plugin packages do not import bench.errors
        raise refuse(error) from error
    _offer(job)


def _offer(job: Job) -> None:
    """Write the preset of a zoo of own images, and name the command that runs it."""
    from bench.data import OWN
    from bench.training.own import write_preset

    if job.dataset in OWN and job.path("classifier").is_file():
        say(f"try it:  python -m bench run {write_preset(job)}")


@app.command()
def doctor(
    repair: Annotated[
        Path | None, typer.Option(help="A results folder: check its counts and keep the intact ones.")
    ] = None,
) -> None:
    """Check this machine: versions, devices, bundled weights, data sets, presets; or a results folder."""
    if repair is not None:
        from bench.store.repair import repair as repair_run
        from bench.store.repair import verdict

        for line in verdict(repair_run(repair)):
            say(line)
        return
    from bench.doctor import examine

    problems = 0
    for subject, finding, healthy in examine():
        problems += healthy is False
        mark = {True: "[green]ok[/]  ", False: "[red]bad[/] ", None: "[yellow]todo[/]"}[healthy]
        console.print(f"{mark} {escape(f'{subject}: {finding}')}", highlight=False, soft_wrap=True)
    if problems:
        raise typer.Exit(FAILED)
