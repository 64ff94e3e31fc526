"""Summaries -> one HTML page that a reviewer can be sent: it opens from disk and loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report.page import render
from bench.store.examples import Examples
from bench.store.quality import Metrics
from bench.summary.summary import Summary

__all__ = ["render", "write_report"]


def write_report(
    summary: Summary,
    manifests: Mapping[str, Mapping[str, Any]],
    examples: Mapping[str, Examples],
    path: Path,
    metrics: Mapping[str, Metrics] | None = None,
) -> Path:
    """Write the report of a summary into one HTML file, in one go: a reader never meets half a page.

    Parameters:
        manifests, examples, metrics: of the runs, by the names that `summary.table` gives them; of the latter two,
            those there are.
    """
    text = render(summary, manifests, examples, metrics or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)
