"""Summaries -> pictures as PNG, SVG or PDF. Nothing here counts, certifies or runs a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InputError
from bench.files import make_folder
from bench.plots.attack import attack
from bench.plots.curves import accuracy_vs_radius
from bench.plots.gains import gains
from bench.plots.grid import image_grid
from bench.plots.pareto import VOTE, pareto, pareto_at
from bench.plots.quality import quality
from bench.plots.race import race
from bench.plots.style import METADATA, save
from bench.store import Examples
from bench.store.attacks import Attacks
from bench.store.quality import Metrics
from bench.store.races import Race
from bench.summary import Summary
from bench.summary.rows import drawable

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "FORMATS",
    "accuracy_vs_radius",
    "attack",
    "draw_all",
    "draw_gains",
    "formats_of",
    "gains",
    "image_grid",
    "pareto",
    "pareto_at",
    "quality",
    "race",
]

FORMATS = ("png", "svg")


def formats_of(words: str) -> list[str]:
    """`png, pdf` -> `["png", "pdf"]`.

    Raises:
        ValueError: a format is unknown; the message lists the known ones.
    """
    formats = list(dict.fromkeys(word.strip().lower() for word in words.split(",")))
    if unknown := [name for name in formats if name not in METADATA]:
        raise InputError(f"pictures are written as {', '.join(METADATA)}, not as {', '.join(map(repr, unknown))}")
    return formats


def draw_all(
    summary: Summary,
    examples: Examples | None,
    folder: Path,
    formats: Sequence[str] = FORMATS,
    metrics: Mapping[str, Metrics] | None = None,
    attacks: Mapping[str, Attacks] | None = None,
    races: Mapping[str, Race] | None = None,
) -> list[Path]:
    """Draw every picture of a summary, and return the files, the most important ones first.

    `pareto`, `pareto-vote` (against FLOPs and time of purifier and classifier, if both are known and times compare),
    `pareto-sigma-S` for each sigma, `accuracy-vs-radius`, `examples-sigma-S` for each sigma of the examples,
    and `quality` and `attack` for the first run with metrics or attacks only, because those of several runs may not
    compare. Before all others `race` for the run that raced, of several runs `race-NAME`. A run with the draws of a
    race only has no fronts.

    Parameters:
        folder: is made if it does not exist.
        formats: of `FORMATS`, or `pdf`.
        metrics, attacks, races: by run, of the runs that have some.
    """
    make_folder(folder)
    rows, written = drawable(summary), []
    for run, raced in (races or {}).items():
        name = "race" if len(races or {}) == 1 else f"race-{run}"
        written += save(race(summary, raced, run), folder, name, formats)
    if len(rows) or not written:
        written += _fronts(summary, rows, folder, formats)
    if examples is not None:
        for sigma in sorted({panel.sigma for panel in examples.panels}):
            written += save(image_grid(summary, examples, sigma), folder, f"examples-sigma-{sigma:g}", formats)
    for run, of_run in list((metrics or {}).items())[:1]:
        written += save(quality(summary, of_run, run), folder, "quality", formats)
    for run, on_run in list((attacks or {}).items())[:1]:
        written += save(attack(summary, on_run, run), folder, "attack", formats)
    return written


def _fronts(summary: Summary, rows: pd.DataFrame, folder: Path, formats: Sequence[str]) -> list[Path]:
    """Draw the fronts and the curves of a summary."""
    written = save(pareto(summary), folder, "pareto", formats)
    if len(rows) and rows["gflops"].notna().any() and not summary.untimed:
        written += save(pareto(summary, VOTE), folder, "pareto-vote", formats)
    for sigma in sorted(rows["sigma"].unique()) if len(rows) else ():
        written += save(pareto_at(summary, sigma), folder, f"pareto-sigma-{sigma:g}", formats)
    written += save(accuracy_vs_radius(summary), folder, "accuracy-vs-radius", formats)
    return written


def draw_gains(
    summary: Summary, baseline: str, radius: float | None, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draw `gains` over a baseline, or `gains-radius-R`; parameters and errors as `bench.plots.gains.gains`."""
    make_folder(folder)
    name = "gains" if radius is None else f"gains-radius-{radius:g}"
    return save(gains(summary, baseline, radius), folder, name, formats)
