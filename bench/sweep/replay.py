"""Plan a stored run again with the current code: its preset, its plugins, its cells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.errors import PurifyBenchError
from bench.plugins.notation import RESERVED
from bench.plugins.trust import PLUGINS, code_named_by_user, name_of
from bench.records import Cell
from bench.store import Run
from bench.sweep.plan import Plan, make_plan
from bench.sweep.preset import Plugin, Preset


class ReplayError(PurifyBenchError):
    """A stored run cannot be planned again; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Pair:
    """A stored cell of a run, and the same cell as the current code plans it."""

    stored: Cell
    current: Cell


def preset_of(run: Run, code: Mapping[str, str | None] | None = None, **overrides: Any) -> Preset:
    """The preset of a run.

    Parameters:
        code: field -> comma-separated files that the user names for its plugins that are Python files; these run
            instead of the files that the manifest names.

    Raises:
        ReplayError: the run has no counts, this version cannot read its preset, or the user must name its code.
    """
    fields = run.manifest.get("preset")
    if not fields or not run.cells:
        raise ReplayError(f"{run.folder} holds no counts of its own, so there are no draws to look at again")
    changed = {name: value for name, value in overrides.items() if value is not None}
    try:
        preset = Preset(**{"certifier": "cohen", **fields, **changed})
    except ValueError as error:  # includes pydantic's ValidationError
        raise ReplayError(f"the preset in the manifest of {run.folder} is not one of this version: {error}") from error
    return _with_named_code(run, preset, code or {})


def _with_named_code(run: Run, preset: Preset, code: Mapping[str, str | None]) -> Preset:
    """The preset with the plugin files that the user names. Files that a results folder names are never run."""
    files = {field: [Path(name_of(text)) for text in (code.get(field) or "").split(",") if text] for field in PLUGINS}
    used = set()

    def with_file(field: str, plugin: Plugin) -> Plugin:
        if not plugin.name.endswith(".py"):
            return plugin
        file = code_named_by_user(plugin.name, files[field])
        if file is None:
            raise ReplayError(
                f"{run.folder} would run code of {plugin.name}, and results run none by themselves. Where you trust "
                f"it, or have it elsewhere, name the file yourself ({PLUGINS[field]} FILE)"
            )
        used.add(file)
        return plugin.model_copy(update={"name": str(file)})

    classifier = with_file("classifier", preset.classifier)
    purifiers = []
    for plugin in preset.purifiers:
        own = {RESERVED: with_file("classifier", plugin.classifier)} if plugin.classifier else {}
        purifiers.append(with_file("purifiers", plugin).model_copy(update=own))
    for field, named in files.items():
        if unused := [str(file) for file in named if file not in used]:
            raise ReplayError(f"{run.folder} has nothing of {', '.join(unused)}: leave out {PLUGINS[field]}")
    return preset.model_copy(update={"classifier": classifier, "purifiers": purifiers})


def planned(run: Run, preset: Preset, device_type: str) -> tuple[Plan, list[Pair]]:
    """The plan of a stored run, and its cells that have counts.

    Raises:
        ReplayError: the images or the parameters of a plugin are not those of the run.
        PlanError, plugins.PluginError, data.DataError: a plugin, a network or the data set is missing.
    """
    current_plan = make_plan(preset, device_type)
    pixels = run.manifest.get("pixels", {})  # absent in runs of earlier versions, whose votes are compared instead
    split = current_plan.split
    if changed := [i for i in current_plan.images if pixels.get(str(i), now := split.pixel_hash(i)) != now]:
        raise ReplayError(
            f"image {changed[0]} of {split.title} is not the image that {run.folder} counted: give the data of "
            "the run (--data), or certify it again with another --out"
        )
    known = {_identity(cell): cell for cell in current_plan.cells}
    counted = set(run.blocks["cell"].unique())
    pairs = []
    for key, cell in run.cells.items():
        if key not in counted or key in run.errors:
            continue
        current = known.get(_identity(cell))
        if current is None:
            raise ReplayError(
                f"the parameters of {cell.label} are not those of {run.folder}: use the code of its revision "
                f"({run.manifest.get('git')}), or certify it again with another --out"
            )
        current = replace(current, precision=cell.precision, compute=cell.compute)  # it computes as the run did
        pairs.append(Pair(cell, current))
    if not pairs:
        raise ReplayError(f"nothing is certified yet in {run.folder}; the same `bench run` command continues")
    return current_plan, pairs


def _identity(cell: Cell) -> str:
    """The facts of a cell that do not depend on code, weights, data, device and the way to compute."""
    facts = (cell.purifier, cell.parameters, cell.classifier, cell.classifier_parameters, cell.dataset)
    return json.dumps([*facts, cell.sigma, cell.seed], sort_keys=True)
