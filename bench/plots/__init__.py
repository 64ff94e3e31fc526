"""Summaries -> pictures, each as PNG and SVG, or as asked. Nothing here counts, certifies or runs a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.errors import InputError
from bench.plots.curves import accuracy_vs_radius
from bench.plots.gains import gains
from bench.plots.grid import image_grid
from bench.plots.pareto import pareto, pareto_at
from bench.plots.quality import quality
from bench.plots.style import METADATA, save
from bench.store.examples import Examples
from bench.store.quality import Metrics
from bench.summary.rows import drawable
from bench.summary.summary import Summary

__all__ = [
    "FORMATS",
    "accuracy_vs_radius",
    "draw_all",
    "draw_gains",
    "formats_of",
    "gains",
    "image_grid",
    "pareto",
    "pareto_at",
    "quality",
]

FORMATS = ("png", "svg")


def formats_of(words: str) -> list[str]:
    """`png, pdf` -> `["png", "pdf"]`; raises ValueError for one that pictures are not written in."""
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
) -> list[Path]:
    """Draw every picture that a summary has the figures for, and return the files in the order in which to look.

    `pareto`, `pareto-sigma-S` for each sigma, `accuracy-vs-radius`, `examples-sigma-S` where there are examples, and
    `quality` where there are metrics: of the first run that has some, because those of several need not compare.

    Parameters:
        metrics: by run, those that there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = drawable(summary)
    written = save(pareto(summary), folder, "pareto", formats)
    for sigma in sorted(rows["sigma"].unique()) if len(rows) else ():
        written += save(pareto_at(summary, sigma), folder, f"pareto-sigma-{sigma:g}", formats)
    written += save(accuracy_vs_radius(summary), folder, "accuracy-vs-radius", formats)
    for sigma in sorted({panel.sigma for panel in examples.panels}) if examples else ():
        assert examples is not None
        written += save(image_grid(summary, examples, sigma), folder, f"examples-sigma-{sigma:g}", formats)
    for run, found in list((metrics or {}).items())[:1]:
        written += save(quality(summary, found, run), folder, "quality", formats)
    return written


def draw_gains(
    summary: Summary, baseline: str, radius: float | None, folder: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draw `gains` over one purifier, or `gains-radius-R`; parameters and errors as `bench.plots.gains.gains`."""
    folder.mkdir(parents=True, exist_ok=True)
    name = "gains" if radius is None else f"gains-radius-{radius:g}"
    return save(gains(summary, baseline, radius), folder, name, formats)
