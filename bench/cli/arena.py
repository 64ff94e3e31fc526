"""`bench arena`: stopping rules of this project and of the field on published logs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.shell import app, notice, numbers, say
from bench.errors import InputError
from bench.files import make_folder

_SIGMA = re.compile(r"sigma_(\d+(?:\.\d+)?)")  # in the file names of locuslab/smoothing


@app.command()
def arena(
    logs: Annotated[list[Path], typer.Argument(help="Logs in the format of locuslab/smoothing.")],
    sigma: Annotated[
        str | None, typer.Option(help="Comma-separated noise level of each log (from names with sigma_0.50).")
    ] = None,
    radii: Annotated[str, typer.Option(help="Comma-separated L2 radii.")] = "0,0.25,0.5,0.75,1",
    alpha: Annotated[float, typer.Option(help="Probability that a certificate is wrong, of every rule.")] = 0.001,
    log_n: Annotated[int, typer.Option(help="Estimation draws that the logs were made with.")] = 100_000,
    log_alpha: Annotated[float, typer.Option(help="Alpha that the logs were made with.")] = 0.001,
    repeats: Annotated[int, typer.Option(help="Simulated runs of each image.", min=2)] = 100,
    seed: Annotated[int, typer.Option(help="Of the simulation.", min=0)] = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for a picture of draws against accuracy lost.")] = None,
) -> None:
    """Compare stopping rules, ours and the field's, on published logs: draws, accuracy lost, failure rate.

    No network runs: the images have the pA that the logs imply, and draws are simulated.
    """
    from bench.certify.arena import Score, compete, published_images, table
    from bench.store.imported import read_log

    if not 0 < alpha < 0.5 or not 0 < log_alpha < 0.5 or log_n < 100:
        raise InputError("alpha and log-alpha must be between 0 and 1/2, and log-n at least 100")
    wanted = tuple(numbers("radii", radii))
    panels: dict[str, list[Score]] = {}
    for log, level in zip(logs, _levels(logs, sigma), strict=True):
        rows, repaired = read_log(log, level, log_n, log_alpha, prefix="log-")
        for line in repaired:
            notice(f"{log}: {line}")
        columns = rows["radius"].to_numpy(float), (rows["predicted"] < 0).to_numpy(), rows["correct"].to_numpy(bool)
        images = published_images(log.name, level, *columns, wanted, log_alpha, log_n)
        scores = compete(images, alpha, repeats, seed)
        say(table(images, scores, repeats) + "\n")
        panels[f"{log.stem}, σ = {level:g}"] = scores
    if out is not None:
        from bench.plots.arena import Mark, draws_and_losses
        from bench.plots.style import save

        marks = {
            name: [Mark(s.facts.rule, s.facts.group, s.draws, s.largest_loss) for s in scores]
            for name, scores in panels.items()
        }
        make_folder(out)
        save(draws_and_losses(marks, alpha, wanted), out, "arena", ("png",))
        say(f"picture in {out / 'arena.png'}")


def _levels(logs: list[Path], sigma: str | None) -> list[float]:
    """The noise level of each log; raises InputError."""
    if sigma is not None:
        levels = numbers("sigma", sigma)
        if len(levels) != len(logs) or min(levels) <= 0:
            raise InputError(f"--sigma must have a positive noise level for each of the {len(logs)} logs")
        return levels
    found = [_SIGMA.search(log.name) for log in logs]
    if None in found:
        raise InputError(f"the name of {logs[found.index(None)]} tells no noise level; give --sigma")
    return [float(match[1]) for match in found if match]
