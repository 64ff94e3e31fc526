"""Summaries -> one self-contained HTML page, which opens from disk and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.files import make_folder, write_file
from bench.published import Figure
from bench.report.page import render
from bench.store import Examples
from bench.store.attacks import Attacks
from bench.store.quality import Metrics
from bench.summary import Summary

__all__ = ["render", "write_report"]


def write_report(
    summary: Summary,
    manifests: Mapping[str, Mapping[str, Any]],
    examples: Mapping[str, Examples],
    path: Path,
    metrics: Mapping[str, Metrics] | None = None,
    attacks: Mapping[str, Attacks] | None = None,
    published: Sequence[Figure] = (),
) -> Path:
    """Write the report of a summary into one HTML file, atomically.

    Parameters:
        manifests: of all runs, by the name of the run in `summary.table`.
        examples, metrics, attacks: of the runs that have some, by the same names.
        published: figures of publications; those of the same data sets are shown.
    """
    text = render(summary, manifests, examples, metrics or {}, attacks or {}, published)
    make_folder(path.parent)
    return write_file(path, text)
