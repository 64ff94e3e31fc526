"""Check a run by counting again, and bundle it as evidence: `bench verify` and `bench bundle`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.api import reading
from bench.cli.shell import FAILED, app, say
from bench.errors import InputError

UNCHECKED = 3  # exit status: no contradiction was found, but a part could not be checked


@app.command()
def verify(
    run: Annotated[Path, typer.Argument(help="Results folder, or a bundle of `bench bundle`.")],
    share: Annotated[float, typer.Option(help="Share of the blocks of each cell to count again.")] = 0.01,
    seed: Annotated[int | None, typer.Option(help="Chooses the blocks (a new random one).", min=0)] = None,
    counts: Annotated[
        bool, typer.Option("--counts/--no-counts", help="Count blocks again, or only check figures against counts.")
    ] = True,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N (the kind that the run had).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; 0 is one per core, or per GPU (the run's).")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set's files, instead of the hub.")] = None,
    networks: Annotated[
        list[str] | None, typer.Option(help="ROLE=NETWORK, repeatable: where this machine has the run's network.")
    ] = None,
    purifiers: Annotated[
        str | None,
        typer.Option(help="Comma-separated Python files of the run's purifiers: results run no code by themselves."),
    ] = None,
    classifier: Annotated[str | None, typer.Option(help="The Python file of its classifier.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The whole answer, as JSON.")] = False,
) -> None:
    """Verify a run without trusting it. Exit status 0: verified, 1: not reproduced, 3: a part cannot be checked."""
    from bench.audit import FAILED as NOT_REPRODUCED
    from bench.audit import VERIFIED
    from bench.records import as_json as to_json

    roles = dict(text.split("=", 1) for text in networks or () if "=" in text)
    if len(roles) < len(networks or ()):
        raise InputError("--networks must be of the form ROLE=NETWORK, each role once")
    code = {"purifiers": purifiers, "classifier": classifier}
    where = {"device": device, "workers": workers, "data": data, "networks": roles or None}
    found = reading.verify(run, share, seed=seed, counts=counts, **where, **code)
    if as_json:
        sys.stdout.write(to_json(found))
    else:
        for line in found.lines():
            say(line)
    if found.status != VERIFIED:
        raise typer.Exit(FAILED if found.status == NOT_REPRODUCED else UNCHECKED)


@app.command()
def bundle(
    run: Annotated[Path, typer.Argument(help="Results folder.")],
    out: Annotated[Path | None, typer.Option(help="The zip (RUN.zip beside the folder).")] = None,
) -> None:
    """Write a run as one zip that a reviewer can check: counts, manifest, hashes, figures, report, its limits."""
    path = out or run.resolve().with_suffix(".zip")
    try:
        digest = reading.bundle(run, path)
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error}); give another --out") from error
    say(f"bundle in {path} ({path.stat().st_size / 1e6:.1f} MB), SHA-256 {digest}")
    say(f"check it with `python -m bench verify {path.name}`; publish the hash to fix what was claimed")
