"""Contradictions inside a run: between manifest, cells, blocks and exports. Loads no network and no plugin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from pydantic import ValidationError

from bench.records import Cell
from bench.store import MANIFEST, Run
from bench.store.database import COLUMNS, DATABASE, SECONDS
from bench.store.run import PARQUET, read_export
from bench.summary import Summary, summarise
from bench.sweep import Plugin, Preset, explain

_STAGES = ("select", "estimate")
_KEY = ["cell", "image", "stage", "first"]


def contradictions(run: Run, summary: Summary) -> Iterator[str]:
    """Every contradiction between the parts of a run, each with its place; none in a sound run."""
    try:
        preset = Preset(**{"certifier": "cohen", **run.manifest.get("preset", {})})
    except ValidationError as error:
        yield f"the preset of the manifest is none that this version reads ({explain(error.errors()[0])})"
        return
    yield from _preset_against_cells(run, preset)
    yield from _images(run, preset)
    yield from blocks_without_sense(run)
    yield from _decisions(run, summary)
    if (run.folder / DATABASE).is_file() and (run.folder / MANIFEST).is_file():
        yield from _database_against_exports(run)


def _preset_against_cells(run: Run, preset: Preset) -> Iterator[str]:
    """The cells of a sweep stand in the order of its preset: for each sigma each purifier."""
    expected = [(sigma, purifier) for sigma in preset.sigmas for purifier in preset.purifiers]
    listed = len(run.manifest.get("sweep", ()))
    if not len(expected) == listed == len(run.cells):
        yield (
            f"the preset makes {len(expected)} cells ({len(preset.purifiers)} purifiers, {len(preset.sigmas)} sigmas); "
            f"the manifest lists {listed}, and {len(run.cells)} of them are there"
        )
        return
    for (sigma, purifier), cell in zip(expected, run.cells.values(), strict=True):
        place = f"{cell.label} at sigma = {cell.sigma:g}"
        facts: Mapping[str, tuple[Any, Any]] = {
            "sigma": (sigma, cell.sigma),
            "seed": (preset.seed, cell.seed),
            "noise": (preset.noise, cell.noise or "gaussian"),
            "precision": (preset.precision, cell.precision),
            "dataset": (preset.dataset, cell.dataset),
            "split": (preset.split, cell.split or preset.split),
            "a classifier of its own": (purifier.classifier not in (None, preset.classifier), cell.own_classifier),
            "a classifier for each sigma": (purifier.classifier.by_sigma if purifier.classifier else {}, cell.by_sigma),
        }
        for name, (stated, counted) in facts.items():
            if stated != counted:
                yield f"{place}: the preset says {name} = {stated}, the cell was counted with {counted}"
        for kind, plugin, (name, parameters) in (
            ("purifier", purifier, (cell.purifier, cell.parameters)),
            (
                "classifier",
                (purifier.classifier or preset.classifier).at(sigma),
                (cell.classifier, cell.classifier_parameters),
            ),
        ):
            if not _is_plugin(plugin, name, parameters):
                yield f"{place}: the preset says {kind} {_text(plugin)}, the cell was counted with another one"


def _is_plugin(plugin: Plugin, name: str, parameters: Mapping[str, object]) -> bool:
    """Whether a preset's plugin may be that of a cell. The name of a plugin that is given by path is in its file."""
    known = {key: value for key, value in plugin.parameters.items() if key in parameters}
    return (plugin.name == name or plugin.name.endswith(".py")) and all(
        _same_value(value, parameters[key]) for key, value in known.items()
    )


def _same_value(text: object, value: object) -> bool:
    """Whether a parameter, which may be text, has this value."""
    try:
        return text == value or float(text) == float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(text).lower() == str(value).lower()


def _text(plugin: Plugin) -> str:
    return ":".join([plugin.name, *(f"{key}={value}" for key, value in plugin.parameters.items())])


def _images(run: Run, preset: Preset) -> Iterator[str]:
    labels, classes = run.manifest.get("labels", {}), run.manifest.get("classes", ())
    if len(labels) != preset.images:
        yield f"the preset says {preset.images} images, the manifest has labels of {len(labels)}"
    if classes and (outside := [i for i, label in labels.items() if not 0 <= label < len(classes)]):
        yield f"image {outside[0]} has the label {labels[outside[0]]}, and there are {len(classes)} classes"
    if (pixels := run.manifest.get("pixels")) and (missing := labels.keys() - pixels.keys()):
        yield f"the manifest has no pixel hash of image {min(missing, key=int)}"


def blocks_without_sense(run: Run) -> Iterator[str]:
    """Votes that are no votes, and draws that are counted twice."""
    b = run.blocks[run.blocks["cell"].isin(run.cells)]
    if b.empty:
        return
    drawn = np.array([sum(votes) for votes in b["votes"]])
    classes = b["votes"].map(len)
    wrong = {
        "has votes that do not add up to its draws": (drawn != b["draws"].to_numpy()) | (b["draws"].to_numpy() < 1),
        "has negative votes": np.array([min(votes, default=0) < 0 for votes in b["votes"]]),
        "is of an unknown stage": ~b["stage"].isin(_STAGES).to_numpy(),
        "has votes of another number of classes than the others": (classes != classes.iloc[0]).to_numpy(),
        "has votes of fewer classes than the manifest names": (
            classes < len(run.manifest.get("classes", ()))
        ).to_numpy(),
        "has negative costs": (b[["nfe", "classifier_rows", *SECONDS]] < 0).any(axis=1).to_numpy(),
    }
    for problem, at in wrong.items():
        if at.any():
            yield f"{_place(run, b.iloc[int(np.argmax(at))])} {problem} ({int(at.sum())} such blocks)"
    ordered = b.sort_values(_KEY)
    same = (ordered[_KEY[:3]] == ordered[_KEY[:3]].shift()).all(axis=1)
    overlapping = same & (ordered["first"] < (ordered["first"] + ordered["draws"]).shift())
    if overlapping.any():
        yield f"{_place(run, ordered[overlapping].iloc[0])} holds draws that another block holds, too"


def _place(run: Run, row: pd.Series) -> str:
    """A block in a message."""
    cell: Cell = run.cells[row["cell"]]
    draws = f"{row['stage']} draws {row['first']} to {row['first'] + row['draws'] - 1}"
    return f"{cell.label} at sigma = {cell.sigma:g}, image {row['image']}, {draws}"


def _decisions(run: Run, summary: Summary) -> Iterator[str]:
    """Rows without all of their certificates, although the run has ended; and failures that are none."""
    for row in summary.table[summary.table["cell"].isin(run.cells)].to_dict("records"):
        place = f"{row['name']} at sigma = {row['sigma']:g}"
        if row["cell"] not in run.errors and isinstance(row["error"], str):
            yield f"{place}: the manifest states another rule than the one that ended its counts"
        elif row["cell"] not in run.errors and row["images"] < row["wanted"] and "ended" in run.manifest:
            yield f"{place}: the run has ended, and counts of {row['wanted'] - row['images']} images are missing"
    if run.errors:
        for row in summarise([replace(run, errors={})]).table.to_dict("records"):
            if row["cell"] in run.errors and row["complete"]:
                yield f"{row['name']} at sigma = {row['sigma']:g} is marked as failed, and has every count"


def _database_against_exports(run: Run) -> Iterator[str]:
    """Differences between the database, which every command reads, and the exports beside it."""
    if "ended" not in run.manifest:
        return  # the run goes on, and its exports are those of an earlier end
    cells = [(key, cell.to_json(), run.errors.get(key)) for key, cell in run.cells.items()]
    stated, registered, blocks = read_export(run.folder)
    for name in sorted((stated.keys() | run.manifest.keys()) - {"cells"}):  # compared below; not in every database
        if stated.get(name) != run.manifest.get(name):
            yield f"{MANIFEST} and {DATABASE} differ in {name!r}"
    if registered != cells:
        yield f"{MANIFEST} and {DATABASE} hold other cells"
    exact = [name for name in COLUMNS if name not in SECONDS]
    ours, theirs = (
        table.sort_values(_KEY, ignore_index=True) for table in (run.blocks[run.blocks["cell"].isin(run.cells)], blocks)
    )
    if len(ours) != len(theirs):
        yield f"{PARQUET} has {len(theirs):,} blocks, {DATABASE} {len(ours):,}"
        return
    differs = np.zeros(len(ours), bool)
    for name in exact:
        differs |= np.array([a != b for a, b in zip(ours[name], theirs[name], strict=True)], bool)
    for name in SECONDS:
        differs |= ~np.isclose(ours[name].astype(float), theirs[name].astype(float), rtol=1e-5, atol=1e-9)
    if differs.any():
        first = _place(run, ours[differs].iloc[0])
        yield f"{PARQUET} and {DATABASE} differ in {int(differs.sum()):,} blocks; the first: {first}"
