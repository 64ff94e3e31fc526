"""The draws of a run once more: planned as it was, by the code of now, and checked against what it counted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import PurifyBenchError
from bench.executors.base import Executor
from bench.plugins.trust import PLUGINS, code_named_by_user, name_of
from bench.records import Block, Cell, Task
from bench.store.run import Run
from bench.sweep.plan import Plan, plan
from bench.sweep.preset import Plugin, Preset

RECOUNTED = 4  # images of each cell whose first block is counted again where the code is not the run's
MOST_MOVED = 0.05  # of the votes there: other noise moves far more, another processor's rounding far less


class MetricsError(PurifyBenchError):
    """The metrics of a run cannot be measured; the message says why and the remedy."""


@dataclass(frozen=True)
class Pair:
    """A cell of a run, and the same as the code of now plans it."""

    own: Cell
    now: Cell


def preset_of(run: Run, code: Mapping[str, str | None] | None = None, **overrides: Any) -> Preset:
    """What a run was asked for.

    Parameters:
        code: field -> comma-separated files that the user names for its plugins that are Python files; these run
            instead of the files that the manifest names.

    Raises:
        MetricsError: it has no counts, this version cannot read it, or it names code that the user does not.
    """
    asked = run.manifest.get("preset")
    if not asked or not run.cells:
        raise MetricsError(f"{run.folder} holds no counts of its own, so there are no draws to look at again")
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        preset = Preset(**{"certifier": "cohen", **asked, **given})
    except ValueError as error:  # pydantic's is one
        raise MetricsError(f"the preset in the manifest of {run.folder} is not one of this version: {error}") from error
    return with_named_code(run, preset, code or {})


def with_named_code(run: Run, preset: Preset, code: Mapping[str, str | None]) -> Preset:
    """The preset with the files that the user names in the place of those that it names; results run no code."""
    files = {field: [Path(name_of(text)) for text in (code.get(field) or "").split(",") if text] for field in PLUGINS}
    used = set()

    def settled(field: str, plugin: Plugin) -> Plugin:
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

    classifier = settled("classifier", preset.classifier)
    purifiers = [settled("purifiers", plugin) for plugin in preset.purifiers]
    for field, given in files.items():
        if unused := [str(file) for file in given if file not in used]:
            raise MetricsError(f"{run.folder} has nothing of {', '.join(unused)}: leave out {PLUGINS[field]}")
    return preset.model_copy(update={"classifier": classifier, "purifiers": purifiers})


def planned(run: Run, preset: Preset, device_type: str) -> tuple[Plan, list[Pair]]:
    """The plan of a run that is to be looked at again, and its cells that have counts.

    Raises:
        MetricsError: the images, or what is to run, are not those of the run.
        PlanError, plugins.PluginError, data.DataError: something that it needs is not here.
    """
    made = plan(preset, device_type)
    pixels = run.manifest.get("pixels", {})  # absent in runs of earlier versions, whose votes are compared instead
    if changed := [i for i in made.images if pixels.get(str(i), digest := made.split.pixel_hash(i)) != digest]:
        raise MetricsError(
            f"image {changed[0]} of {made.split.title} is not the image that {run.folder} counted: give the data of "
            "the run (--data), or certify it again with another --out"
        )
    known = {identity(cell): cell for cell in made.cells}
    counted = set(run.blocks["cell"].unique())
    pairs = []
    for key, cell in run.cells.items():
        if key not in counted or key in run.errors:
            continue
        now = known.get(identity(cell))
        if now is None:
            raise MetricsError(
                f"the parameters of {cell.label} are not those of {run.folder}: use the code of its revision "
                f"({run.manifest.get('git')}), or certify it again with another --out"
            )
        pairs.append(Pair(cell, now))
    if not pairs:
        raise MetricsError(f"nothing is certified yet in {run.folder}; the same `bench run` command continues")
    return made, pairs


def identity(cell: Cell) -> str:
    """What a cell is, whatever its code, weights, data and device."""
    facts = (cell.purifier, cell.parameters, cell.classifier, cell.classifier_parameters, cell.dataset)
    return json.dumps([*facts, cell.sigma, cell.seed, cell.precision], sort_keys=True)


def chosen_images(made: Plan, count: int) -> list[int]:
    """As many of the run's images, balanced as a sweep chooses them; all where there are fewer."""
    images, most = list(made.images), min(count, len(made.images))
    return images[:most] if made.split.interleaved else [images[i * len(images) // most] for i in range(most)]


def recount(run: Run, pair: Pair, executor: Executor) -> tuple[int, int]:
    """Draws of a cell that are counted again because its code is not the run's, and votes that come out differently.

    They are the first blocks of the images whose votes are most divided, where other noise or another network would
    show most.

    Raises:
        MetricsError: more votes than rounding explains.
    """
    if pair.own.key == pair.now.key:
        return 0, 0
    blocks = run.blocks
    first = blocks[(blocks["cell"] == pair.own.key) & (blocks["stage"] == "estimate") & (blocks["first"] == 0)]
    agreed = [max(votes) / max(sum(votes), 1) for votes in first["votes"]]
    most = first.iloc[np.argsort(agreed, kind="stable")[:RECOUNTED]]
    if most.empty:
        return 0, 0
    asked = tuple(
        Block(pair.now.key, int(i), "estimate", 0, int(n)) for i, n in zip(most["image"], most["draws"], strict=True)
    )
    counted = executor.submit(Task(pair.now, asked)).result()
    by_image = {counts.block.image: counts.votes for counts in counted}
    differences = [np.subtract(votes, by_image[i]) for i, votes in zip(most["image"], most["votes"], strict=True)]
    draws, moved = int(most["draws"].sum()), int(sum(np.abs(d).sum() for d in differences)) // 2
    if moved > MOST_MOVED * draws:
        raise MetricsError(
            f"{pair.own.label} at sigma = {pair.own.sigma:g}: of {draws} draws that were counted again, {moved} gave "
            f"another class than in {run.folder}, so these are not its draws: code, weights or data have changed. "
            f"Certify it again with another --out, or take the code of its revision ({run.manifest.get('git')})"
        )
    return draws, moved
