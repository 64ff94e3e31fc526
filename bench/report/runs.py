"""What was run: how complete each run is, what is missing and why, and the facts of its manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from bench.summary.names import short_names
from bench.summary.pairs import run_volume
from bench.summary.summary import IMPORTED, Summary

LONG = ("labels", "sweep", "cells")  # of a manifest: lists that say nothing to a reader
ROWS = ("purifiers", "networks")  # of a preset
WORDS = {
    **{"purifybench": "PurifyBench", "git": "code revision", "python": "Python"},
    **{"n0": "N0", "n": "N", "n_max": "Nmax", "name": "preset", "dataset": "data set"},
}


def describe(summary: Summary, manifests: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each run: completeness, missing cells, facts, keys and hashes of its cells, and the manifest as text."""
    return [
        {
            "name": name,
            **completeness(summary, name),
            "facts": [
                ("What was measured", list(measured(summary, name))),
                ("What was asked for", list(asked(manifest.get("preset", {})))),
                ("What it ran on", list(ran_on(manifest))),
            ],
            "hashed": list(keys(summary, name)),
            "manifest": json.dumps({k: v for k, v in manifest.items() if k not in LONG}, indent=1) if manifest else "",
        }
        for name, manifest in manifests.items()
    ]


def completeness(summary: Summary, run: str) -> dict[str, Any]:
    """How many cells of a run are complete, and which are not."""
    table = summary.table
    mine = table[table["run"] == run] if len(table) else pd.DataFrame()
    missing = list(missing_cells(summary, mine)) if len(mine) else []
    cells, complete = len(mine), len(mine) - len(missing)
    words = f"{complete} of {cells} cells are complete" if cells else "no cell has been certified yet"
    if len(mine):
        counted = mine[mine["source"] != IMPORTED]
        words += f", {int(counted['wanted'].max()):,} images each" if len(counted) else " (imported logs)"
    return {
        "cells": max(cells, 1),
        "complete": complete,
        "whole": cells > 0 and not missing,
        "words": words,
        "missing": missing,
    }


def missing_cells(summary: Summary, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    names = short_names(summary.table)
    for row in rows.to_dict("records"):
        failed = isinstance(row["error"], str)
        images = int(row["images"]) if row["images"] == row["images"] else 0
        if failed or images < row["wanted"]:
            why = row["error"] if failed else "not counted to the end; the same `bench run` command continues"
            name = names[row["label"]]
            yield {"name": name, "sigma": row["sigma"], "images": images, "wanted": int(row["wanted"]), "why": why}


def measured(summary: Summary, run: str) -> Iterator[tuple[str, str]]:
    """Certifier, device and hypervolume of a run."""
    table = summary.table
    mine = table[table["run"] == run] if len(table) else table
    if mine.empty:
        return
    yield "certifier", "; ".join(sorted(set(mine["rule"].dropna())))
    if "device" in mine and len(devices := sorted(set(mine["device"].dropna()))):
        yield "device", "; ".join(devices)
    volume = run_volume(summary, run)
    if volume is not None:
        bounds = "" if math.isnan(volume.low) else f" [{volume.low:.3f}, {volume.high:.3f}]"
        yield (
            "hypervolume of the front",
            f"{volume.value:.3f}{bounds}: ACR that a budget buys, averaged over {volume.scale}",
        )


def asked(preset: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The fields of a preset, but those that the rows of the tables are."""
    for name, value in preset.items():
        if name not in ROWS and value is not None:
            yield WORDS.get(name, name.replace("_", " ")), plain(value)


def ran_on(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Versions, platform and times."""
    for name, value in manifest.items():
        if name not in (*LONG, "preset", "families", "classes", "format") and value is not None:
            yield WORDS.get(name, name), plain(value)


def plain(value: Any) -> str:
    """A value of a manifest as a person writes it."""
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return ", ".join(plain(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def keys(summary: Summary, run: str) -> Iterator[dict[str, Any]]:
    """The cells of a run with the hashes that their keys are made of."""
    for (name, key), cell in summary.cells.items():
        if name == run:
            hashes = {k: v for k, v in cell.hashes.items() if v}
            yield {"label": cell.label, "sigma": cell.sigma, "key": key, "hashes": plain(hashes)}
