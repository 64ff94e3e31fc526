"""Runs for the tests of the board, made of votes, as folders whose figures follow from their counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import report_runs

from bench.board.benchmark import Benchmark, benchmarks
from bench.board.submission import Submission
from bench.records import Cell
from bench.store import Run, export

PURIFIERS = {  # name: family, NFE, milliseconds, share of votes for the true class
    "none": ("none", 0, 0.001, 0.3),
    "onestep-edm": ("one-step", 1, 0.3, 0.97),
    "consistency": ("consistency", 1, 0.31, 0.97),
    "pf-ode": ("pf-ode", 5, 1.5, 0.98),
}
Edit = Callable[[Cell], Cell]


def make_run(
    folder: Path,
    purifiers: Mapping[str, tuple[str, float, float, float]] = PURIFIERS,
    edit: Edit = lambda cell: cell,
    manifest: Mapping[str, Any] | None = None,
    preset: Mapping[str, Any] | None = None,
    **options: Any,
) -> Run:
    """A run that has ended, in memory.

    Parameters:
        edit: of every cell.
        manifest, preset: other facts than usual.
    """
    named = {"purifiers": [{"name": name} for name in purifiers], "classifier": {"name": "cnn"}}
    run = report_runs.make_run(folder, purifiers, preset={**named, **(preset or {})}, **options)
    cells = {key: edit(cell) for key, cell in run.cells.items()}
    keys = {old: cell.key for old, cell in cells.items()}
    blocks = run.blocks.assign(cell=run.blocks["cell"].map(keys))
    facts = {"ended": "2026-01-02T03:04:05+00:00", "classes": ["cat", "dog", "frog"], "sweep": list(keys.values())}
    costs = {keys[old]: cost for old, cost in run.manifest["costs"].items()}
    record = {**run.manifest, **facts, "costs": costs, **(manifest or {})}
    return replace(run, manifest=record, cells={cell.key: cell for cell in cells.values()}, blocks=blocks)


def write_run(folder: Path, *arguments: Any, **options: Any) -> Path:
    """The folder of a run of `make_run`, with its exports."""
    folder.mkdir(parents=True)
    export(make_run(folder, *arguments, **options))
    return folder


def submitted(run: Run, **facts: Any) -> Submission:
    return Submission(
        run, **{"attacks": None, "bundle": f"{run.folder.name}.zip", "digest": "0" * 64, "size": 1} | facts
    )


def benchmark_of(*runs: Run) -> Benchmark:
    """The only benchmark of some runs."""
    (found,) = benchmarks([submitted(run) for run in runs])
    return found
