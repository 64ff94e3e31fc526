"""Settle what a preset leaves to `auto`: by measuring, once for a network and a device, what computes fastest there.

Only ways count that keep purified images within TOLERANCE of what float32 gives. The choice, never `auto`, is part of a
cell's identity, and the manifest records what was measured.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bench import speed_cache
from bench.compute import refuse_unsupported
from bench.executors.local import choose_precision, prepare_device
from bench.loaded import LoadError
from bench.loader import Loader
from bench.meter import device_name
from bench.plan import Plan
from bench.preset import DEFAULT_BATCH, Plugin, Preset
from bench.trials import LONG, How, Trials, choose

AUTO = "auto"
TOLERANCE = 0.01  # root mean square of a purified image, in [0,1]: 2.5 levels of an image file
LOGITS = 0.05  # of a classifier's logits, as a share of their standard deviation
CLEARLY = 1.1  # how many times faster another way must be than the one that the device's kind suggests
TRIED = 100  # rows on which ways are timed, where a call does not take long


def settle(planned: Plan, device: str, measure: bool = True, notify: Callable[[str], object] = lambda _: None) -> Plan:
    """A plan whose cells say how they compute.

    Parameters:
        device: where the networks will run, here.
        measure: False where that device is elsewhere: then `auto` is what its kind suggests, and nothing is compiled.
        notify: is told when measuring begins.

    Raises:
        ValueError: the device cannot do what is asked for.
        LoadError: a network cannot be loaded or compiled.
    """
    preset = planned.preset
    refuse_unsupported(preset.precision, preset.compile, device)
    asked = {name: getattr(preset, name) for name in ("precision", "channels_last", "compile", "rows", "batch")}
    asked["classifier"] = planned.cells[0].classifier_parameters.get("precision")
    if preset.compile == "no":
        asked["rows"] = None
    if AUTO not in asked.values():
        return apply(planned, expected(preset, asked, device), int(preset.batch), {})
    if not measure:
        return apply(planned, expected(preset, asked, device), whole(preset.batch, DEFAULT_BATCH), {"asked": asked})
    facts = facts_of(planned, prepare_device(device), asked)
    found = speed_cache.recall(facts)
    if found is None:
        notify("measuring how these networks compute fastest on this device; it is kept for later runs")
        found = measured(trials_of(planned, torch.device(device)), preset, asked, device)
        speed_cache.remember(facts, found)
    return apply(planned, How(**found["chosen"]), int(found["batch"]), {"asked": asked, **found})


def expected(preset: Preset, asked: dict[str, Any], device: str) -> How:
    """What is asked for, and where that is `auto` what the kind of device suggests."""
    compiles = "no" if preset.compile == AUTO else preset.compile
    return How(
        precision=choose_precision(preset.precision, device),
        channels_last=preset.channels_last is True,
        compile=compiles,
        rows=0 if compiles == "no" else whole(preset.rows, whole(preset.batch, DEFAULT_BATCH)),
        classifier="fp32" if asked["classifier"] == AUTO else asked["classifier"],
    )


def whole(number: int | str, instead: int) -> int:
    return instead if isinstance(number, str) else number


def measured(trials: Trials, preset: Preset, asked: dict[str, Any], device: str) -> dict[str, Any]:
    """The choice for a sweep, as JSON: `chosen`, `batch`, and what was measured."""
    first = replace(expected(preset, asked, device), compile="no", rows=0)
    distances: dict[How, float] = {}

    def faithful(way: How) -> bool:
        try:
            distances[way] = trials.distance(way)
        except LoadError:
            if way.compile == "no" or preset.compile != AUTO:
                raise
            return False  # it cannot be compiled here, and need not be
        return (way.precision == "fp32" and way.compile == "no") or distances[way] <= TOLERANCE

    found: dict[str, Any] = {}
    rows = whole(preset.rows, 0)
    if asked["batch"] == AUTO or (asked["rows"] == AUTO):
        knee, found["rates"] = trials.knee(first)
        rows = rows or knee
    (once,) = trials.seconds([first], 10, classifier=True)
    tried = max(4, min(TRIED, int(10 * LONG / 4 / once)))
    timed = partial(trials.seconds, rows=tried)
    if trials.roles:
        layouts = [False, True] if preset.channels_last == AUTO else [first.channels_last]
        ways = [replace(first, precision=p, channels_last=c) for p in precisions(preset, device) for c in layouts]
        ways = [way for way in (first, *(way for way in ways if way != first)) if faithful(way)]
        first = choose(ways or [replace(first, precision="fp32")], timed, CLEARLY)
    if asked["classifier"] == AUTO:
        other = replace(first, classifier="bf16")
        found["logits"] = trials.logit_distance(other, first)
        if found["logits"] <= LOGITS:
            first = choose([first, other], partial(timed, networks=False, classifier=True), CLEARLY)
    if preset.compile != "no":
        modes = compile_modes(device) if preset.compile == AUTO else [preset.compile]
        ways = [
            replace(first, compile=mode, rows=rows, channels_last=layout)
            for mode in modes
            for layout in compiled_layouts(preset, first, device)
        ]
        at_rows = partial(trials.seconds, rows=rows, classifier=True)
        ways = [way for way in ways if preset.compile != AUTO or faithful(way)]
        first = choose([first, *ways] if preset.compile == AUTO else ways, at_rows, CLEARLY)
    found["distances"] = [{**asdict(way), "distance": distance} for way, distance in distances.items()]
    return {**found, "chosen": asdict(first), "batch": whole(preset.batch, rows), "tolerance": TOLERANCE}


def precisions(preset: Preset, device: str) -> list[str]:
    """What may be tried; a precision without instructions for it is slow, and is not."""
    if preset.precision != AUTO:
        return [preset.precision]
    fast = choose_precision(AUTO, device)
    return list(dict.fromkeys([fast, "fp32", *(["tf32", "fp16"] if device.startswith("cuda") else [])]))


def compile_modes(device: str) -> list[str]:
    return ["default", "reduce-overhead"] if device.startswith("cuda") else ["default"]


def compiled_layouts(preset: Preset, eager: How, device: str) -> list[bool]:
    """A CPU's vector loops want the channels innermost, whatever suits its eager kernels; a GPU keeps what does."""
    return [eager.channels_last or (preset.channels_last == AUTO and not device.startswith("cuda"))]


def facts_of(planned: Plan, device: torch.device, asked: dict[str, Any]) -> dict[str, Any]:
    """Everything that a measurement depends on."""
    hashes = {k: v for cell in planned.cells for k, v in cell.hashes.items() if k not in ("purifier", "rule", "noise")}
    return {
        "asked": asked,
        "device": device_name(device),
        "torch": torch.__version__,
        "image": list(planned.split.images[planned.images[0]].shape),
        "sigmas": [min(planned.preset.sigmas), max(planned.preset.sigmas)],
        "classifier": {k: v for k, v in planned.cells[0].classifier_parameters.items() if k != "path"},
        "hashes": hashes,
    }


def trials_of(planned: Plan, device: torch.device) -> Trials:
    images = np.stack([planned.split.images[i] for i in planned.images[:16]])
    roles = {
        name.removeprefix("network "): c for c in planned.cells for name in c.hashes if name.startswith("network ")
    }
    loader = Loader(planned.weights, device, images.shape[1:], planned.plugin_files)
    sigmas = sorted({min(planned.preset.sigmas), max(planned.preset.sigmas)})
    return Trials(loader, roles or {"": planned.cells[0]}, sigmas, images)


def apply(planned: Plan, how: How, batch: int, record: dict[str, Any]) -> Plan:
    """The plan with a choice made."""
    update: dict[str, Any] = {k: v for k, v in asdict(how).items() if k not in ("classifier", "rows")} | {
        "batch": batch
    }
    if how.compile != "no":
        update["rows"] = how.rows
    if how.classifier is not None:
        given = planned.preset.classifier
        update["classifier"] = Plugin(**{"name": given.name, **given.parameters, "precision": how.classifier})
    return replace(
        planned,
        preset=planned.preset.model_copy(update=update),
        cells=[how.of(cell) for cell in planned.cells],
        tuning=record,
    )
