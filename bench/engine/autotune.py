"""Choose how a sweep computes, by measuring on a device what is fastest there; the answer is kept for later runs.

Only ways count that keep purified images within TOLERANCE of what float32 gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.engine import tuning_cache as speed_cache
from bench.engine.devices import choose_precision, device_name
from bench.engine.loader import Loader, LoadError
from bench.engine.trials import LONG, How, Trials, choose
from bench.records import Cell

AUTO = "auto"
TOLERANCE = 0.01  # root mean square of a purified image, in [0,1]: 2.5 levels of an image file
LOGITS = 0.05  # of a classifier's logits, as a share of their standard deviation
CLEARLY = 1.1  # how many times faster another way must be than the one that the device's kind suggests
TRIED = 100  # rows on which ways are timed, where a call does not take long


@dataclass(frozen=True)
class Question:
    """What a sweep leaves open, and what it takes to answer that on any device.

    Attributes:
        asked: `precision`, `channels_last`, `compile`, `rows` (0: not compiled), `batch`, and the precision of the
            `classifier` (None: it has no choice of it). Some of them are `auto`.
        cells: of the sweep.
        images: `[M,C,H,W]` in [0,1], some of the sweep's.
    """

    asked: Mapping[str, Any]
    cells: Sequence[Cell]
    images: np.ndarray

    @property
    def open(self) -> bool:
        return AUTO in self.asked.values()

    @property
    def sigmas(self) -> list[float]:
        """The lowest and the highest."""
        sigmas = [cell.sigma for cell in self.cells]
        return [min(sigmas), max(sigmas)]

    def facts(self, device: str) -> dict[str, Any]:
        """Everything that a measurement on a device of that name depends on."""
        hashes = {k: v for cell in self.cells for k, v in cell.hashes.items() if k not in ("purifier", "rule", "noise")}
        return {
            "asked": dict(self.asked),
            "device": device,
            "torch": torch.__version__,
            "image": list(self.images.shape[1:]),
            "sigmas": self.sigmas,
            "classifier": {k: v for k, v in self.cells[0].classifier_parameters.items() if k != "path"},
            "hashes": hashes,
        }

    def trials(self, loader: Loader) -> Trials:
        """The networks of the sweep on some noisy images of it."""
        roles = {
            name.removeprefix("network "): c for c in self.cells for name in c.hashes if name.startswith("network ")
        }
        return Trials(loader, roles or {"": self.cells[0]}, sorted(set(self.sigmas)), self.images)


def answer(question: Question, loader: Loader, notify: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """As `measured`, with the name of the `device`: what was kept of it in this user's cache, or measured now.

    Parameters:
        loader: of the device that is to tell.
        notify: is told when measuring begins.
    """
    device = device_name(loader.device)
    facts = question.facts(device)
    found = speed_cache.recall(facts)
    if found is None:
        notify("measuring how these networks compute fastest on this device; it is kept for later runs")
        found = measured(question.trials(loader), question.asked)
        speed_cache.remember(facts, found)
    return {"device": device, **found}


def measured(trials: Trials, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The choice for a sweep, as JSON: `chosen`, `batch`, and what was measured.

    Raises:
        LoadError: a network cannot be loaded, or not compiled as was asked for.
    """
    device = trials.loader.device.type
    first = suggested(asked, device)
    distances: dict[How, float] = {}

    def faithful(way: How) -> bool:
        try:
            distances[way] = trials.distance(way)
        except LoadError:
            if way.compile == "no" or asked["compile"] != AUTO:
                raise
            return False  # it cannot be compiled here, and need not be
        return (way.precision == "fp32" and way.compile == "no") or distances[way] <= TOLERANCE

    found: dict[str, Any] = {}
    rows = whole(asked["rows"], 0)
    if AUTO in (asked["batch"], asked["rows"]):
        knee, found["rates"] = trials.knee(first)
        rows = rows or knee
    (once,) = trials.seconds([first], 10, classifier=True)
    tried = max(4, min(TRIED, int(10 * LONG / 4 / once)))
    timed = partial(trials.seconds, rows=tried)
    likely = first.precision  # of a compiled network, whose speed an eager one does not foretell
    if trials.roles:
        layouts = [False, True] if asked["channels_last"] == AUTO else [first.channels_last]
        ways = [replace(first, precision=p, channels_last=c) for p in precisions(asked, device) for c in layouts]
        ways = [way for way in (first, *(way for way in ways if way != first)) if faithful(way)]
        ways = ways or [replace(first, precision="fp32")]
        likely, first = ways[0].precision, choose(ways, timed, CLEARLY)
    if asked["classifier"] == AUTO:
        other = replace(first, classifier="bf16")
        found["logits"] = trials.logit_distance(other, first)
        if found["logits"] <= LOGITS:
            first = choose([first, other], partial(timed, networks=False, classifier=True), CLEARLY)
    if asked["compile"] != "no":
        modes = compile_modes(device) if asked["compile"] == AUTO else [asked["compile"]]
        ways = [
            replace(first, precision=precision, compile=mode, rows=rows, channels_last=layout)
            for precision in dict.fromkeys([likely, first.precision])
            for mode in modes
            for layout in compiled_layouts(asked, first, device)
        ]
        at_rows = partial(trials.seconds, rows=rows, classifier=True)
        ways = [way for way in ways if asked["compile"] != AUTO or faithful(way)]
        first = choose([first, *ways] if asked["compile"] == AUTO else ways, at_rows, CLEARLY)
    found["distances"] = [{**asdict(way), "distance": distance} for way, distance in distances.items()]
    return {**found, "chosen": asdict(first), "batch": whole(asked["batch"], rows), "tolerance": TOLERANCE}


def suggested(asked: Mapping[str, Any], device: str) -> How:
    """What is asked for, and where that is `auto` what the kind of device suggests; not compiled."""
    return How(
        precision=choose_precision(asked["precision"], device),
        channels_last=asked["channels_last"] is True,
        classifier="fp32" if asked["classifier"] == AUTO else asked["classifier"],
    )


def whole(number: int | str, instead: int) -> int:
    return instead if isinstance(number, str) else number


def precisions(asked: Mapping[str, Any], device: str) -> list[str]:
    """What may be tried; a precision without instructions for it is slow, and is not."""
    if asked["precision"] != AUTO:
        return [asked["precision"]]
    fast = choose_precision(AUTO, device)
    return list(dict.fromkeys([fast, "fp32", *(["tf32", "fp16"] if device == "cuda" else [])]))


def compile_modes(device: str) -> list[str]:
    return ["default", "reduce-overhead"] if device == "cuda" else ["default"]


def compiled_layouts(asked: Mapping[str, Any], eager: How, device: str) -> list[bool]:
    """A CPU's vector loops want the channels innermost, whatever suits its eager kernels; a GPU keeps what does."""
    return [eager.channels_last or (asked["channels_last"] == AUTO and device != "cuda")]
