"""Plan a stored run again with the current code, and check that its draws give the stored counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import PurifyBenchError
from bench.executors import Executor, describe_cell
from bench.plugins.trust import PLUGINS, code_named_by_user, name_of
from bench.records import Block, Cell, Task
from bench.store import Run
from bench.sweep import Plan, Plugin, Preset, make_plan

_RECOUNTED = 4  # images of each cell whose first block is counted again if the code has changed
_MOST_MOVED = 0.05  # share of these votes: other noise moves far more, the rounding of another processor far less


class MetricsError(PurifyBenchError):
    """The metrics of a run cannot be measured; the message gives the reason and the remedy."""


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
        MetricsError: the run has no counts, this version cannot read its preset, or the user must name its code.
    """
    fields = run.manifest.get("preset")
    if not fields or not run.cells:
        raise MetricsError(f"{run.folder} holds no counts of its own, so there are no draws to look at again")
    changed = {name: value for name, value in overrides.items() if value is not None}
    try:
        preset = Preset(**{"certifier": "cohen", **fields, **changed})
    except ValueError as error:  # includes pydantic's ValidationError
        raise MetricsError(f"the preset in the manifest of {run.folder} is not one of this version: {error}") from error
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
            raise MetricsError(
                f"{run.folder} would run code of {plugin.name}, and results run none by themselves. Where you trust "
                f"it, or have it elsewhere, name the file yourself ({PLUGINS[field]} FILE)"
            )
        used.add(file)
        return plugin.model_copy(update={"name": str(file)})

    classifier = with_file("classifier", preset.classifier)
    purifiers = [with_file("purifiers", plugin) for plugin in preset.purifiers]
    for field, named in files.items():
        if unused := [str(file) for file in named if file not in used]:
            raise MetricsError(f"{run.folder} has nothing of {', '.join(unused)}: leave out {PLUGINS[field]}")
    return preset.model_copy(update={"classifier": classifier, "purifiers": purifiers})


def planned(run: Run, preset: Preset, device_type: str) -> tuple[Plan, list[Pair]]:
    """The plan of a stored run, and its cells that have counts.

    Raises:
        MetricsError: the images or the parameters of a plugin are not those of the run.
        PlanError, plugins.PluginError, data.DataError: a plugin, a network or the data set is missing.
    """
    current_plan = make_plan(preset, device_type)
    pixels = run.manifest.get("pixels", {})  # absent in runs of earlier versions, whose votes are compared instead
    split = current_plan.split
    if changed := [i for i in current_plan.images if pixels.get(str(i), now := split.pixel_hash(i)) != now]:
        raise MetricsError(
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
            raise MetricsError(
                f"the parameters of {cell.label} are not those of {run.folder}: use the code of its revision "
                f"({run.manifest.get('git')}), or certify it again with another --out"
            )
        pairs.append(Pair(cell, replace(current, compute=cell.compute)))  # it computes as the run did
    if not pairs:
        raise MetricsError(f"nothing is certified yet in {run.folder}; the same `bench run` command continues")
    return current_plan, pairs


def _identity(cell: Cell) -> str:
    """The facts of a cell that do not depend on code, weights, data and device."""
    facts = (cell.purifier, cell.parameters, cell.classifier, cell.classifier_parameters, cell.dataset)
    return json.dumps([*facts, cell.sigma, cell.seed, cell.precision], sort_keys=True)


def chosen_images(plan: Plan, count: int) -> list[int]:
    """At most `count` of the plan's images, balanced over the classes as a sweep selects them."""
    images, most = list(plan.images), min(count, len(plan.images))
    return images[:most] if plan.split.interleaved else [images[i * len(images) // most] for i in range(most)]


def recount(run: Run, pair: Pair, executor: Executor) -> tuple[int, int]:
    """Count some draws of a cell again if its code has changed; returns their number, and how many votes changed.

    They are the first blocks of the images with the most divided votes, which depend most on noise and network.

    Raises:
        MetricsError: more votes changed than rounding explains.
    """
    if pair.stored.key == pair.current.key:
        return 0, 0
    blocks = run.blocks
    first = blocks[(blocks["cell"] == pair.stored.key) & (blocks["stage"] == "estimate") & (blocks["first"] == 0)]
    agreed = [max(votes) / max(sum(votes), 1) for votes in first["votes"]]
    most = first.iloc[np.argsort(agreed, kind="stable")[:_RECOUNTED]]
    if most.empty:
        return 0, 0
    again = tuple(
        Block(pair.current.key, int(i), "estimate", 0, int(n))
        for i, n in zip(most["image"], most["draws"], strict=True)
    )
    counted = executor.submit(Task(pair.current, again)).result()
    by_image = {counts.block.image: counts.votes for counts in counted}
    differences = [np.subtract(votes, by_image[i]) for i, votes in zip(most["image"], most["votes"], strict=True)]
    draws, moved = int(most["draws"].sum()), int(sum(np.abs(d).sum() for d in differences)) // 2
    if moved > _MOST_MOVED * draws:
        raise MetricsError(
            f"{describe_cell(pair.stored)}: of {draws} draws that were counted again, {moved} gave another class than "
            f"in {run.folder}, so these are not its draws: code, weights or data have changed. "
            f"Certify it again with another --out, or take the code of its revision ({run.manifest.get('git')})"
        )
    return draws, moved
