"""The section about the runs: completeness, missing cells with their reasons, and the facts of the manifests."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from bench.records import COUNTED
from bench.report.figures import interval_text, known
from bench.summary import Summary
from bench.summary.pairs import run_volume

_LONG = ("labels", "sweep", "cells", "trust", "costs")  # lists of a manifest, too long for a reader
_ROWS = ("purifiers", "networks")  # of a preset: the tables show them
_WORDS = {
    **{"purifybench": "PurifyBench", "git": "code revision", "python": "Python"},
    **{"n0": "N0", "n": "N", "n_max": "Nmax", "name": "preset", "dataset": "data set"},
}


def describe(summary: Summary, manifests: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each run: completeness, missing cells, facts, keys and hashes of its cells, and the manifest as text."""
    for name, manifest in manifests.items():
        rows = summary.table[summary.table["run"] == name]
        short_manifest = {key: value for key, value in manifest.items() if key not in _LONG}
        yield {
            "name": name,
            **_completeness(rows),
            "facts": {
                "Certification": list(_measured(summary, name, rows)),
                "Preset": _facts(manifest.get("preset", {}), _ROWS),
                "Environment": _facts(manifest, (*_LONG, "preset", "families", "classes", "format")),
            },
            "hashed": list(_keys(summary, name, rows)),
            "manifest": json.dumps(short_manifest, indent=1) if manifest else "",
        }


def _completeness(rows: pd.DataFrame) -> dict[str, Any]:
    """The number of complete cells of a run, and the others."""
    missing = rows[~rows["complete"]].to_dict("records")
    cells, complete = len(rows), len(rows) - len(missing)
    words = f"{complete} of {cells} cells are complete" if cells else "no cell has been certified yet"
    if cells:
        counted = rows[rows["source"] == COUNTED]
        words += f", {int(counted['wanted'].max()):,} images each" if len(counted) else " (imported logs)"
    return {"cells": cells, "complete": complete, "words": words, "missing": missing}


def _measured(summary: Summary, run: str, rows: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Evidence of soundness, certifier, device and hypervolume of a run."""
    if run in summary.evidence:
        yield "checks and audit", summary.evidence[run]
    for name, column in (("certifier", "rule"), ("device", "device")):
        if len(values := sorted(set(rows[column].dropna()))):
            yield name, "; ".join(values)
    volume = run_volume(summary, run)
    if volume is not None:
        words = f"{volume.value:.3f} {interval_text(known(volume.low), known(volume.high))}".rstrip()
        yield "hypervolume of the front", f"{words}: ACR that a budget buys, averaged over {volume.scale}"


def _facts(values: Mapping[str, Any], hidden: Sequence[str]) -> list[tuple[str, str]]:
    """The values of a manifest or of its preset under the names of the page, except the hidden ones."""
    shown = {name: value for name, value in values.items() if name not in hidden and value is not None}
    return [(_WORDS.get(name, name.replace("_", " ")), _plain(value)) for name, value in shown.items()]


def _plain(value: Any) -> str:
    """A value of a manifest as text."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {_plain(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return ", ".join(_plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _keys(summary: Summary, run: str, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The cells of a run with their keys, and the hashes of code, weights and data behind these."""
    names = dict(zip(rows["cell"], rows["name"], strict=True))
    for (name, key), cell in summary.cells.items():
        if name == run:
            hashes = {k: v for k, v in cell.hashes.items() if v}
            yield {"name": names[key], "sigma": cell.sigma, "key": key, "hashes": _plain(hashes)}
