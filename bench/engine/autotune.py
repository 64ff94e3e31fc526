"""Choose how a sweep computes: measure which configuration is fastest on a device, and keep the result.

A configuration qualifies only if its purified images stay within TOLERANCE of those in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field

from bench.engine import tuning_cache
from bench.engine.devices import choose_precision, device_name
from bench.engine.loader import Loader, LoadError
from bench.engine.trials import LONG_CALL, ComputeConfig, Trials, fastest
from bench.engine.versions import DEFAULT_ROWS
from bench.errors import InputError
from bench.files import validated
from bench.records import Cell

AUTO = "auto"
_TOLERANCE = 0.01  # root mean square of a purified image, in [0,1]: 2.5 levels of an 8-bit image
_LOGIT_TOLERANCE = 0.05  # of a classifier's logits, as a share of their standard deviation
_MARGIN = 1.1  # a configuration must be so many times faster to replace the default of the device type
_MOST_ROWS = 1 << 20
_TIMED_ROWS = 100  # rows of a timed call, fewer if a call takes long


@dataclass(frozen=True)
class TuningRequest:
    """The options of a sweep, some of them `auto`, with the cells and images for measuring on any device.

    Attributes:
        options: `precision`, `channels_last`, `compile`, `rows`, `batch`, and the precision of the `classifier`
            (None: it has no such parameter).
        cells: of the sweep.
        images: `[M,C,H,W]` in [0,1], some images of the sweep.
    """

    options: Mapping[str, Any]
    cells: Sequence[Cell]
    images: np.ndarray

    @property
    def sigmas(self) -> list[float]:
        """The lowest and the highest."""
        sigmas = [cell.sigma for cell in self.cells]
        return [min(sigmas), max(sigmas)]

    def facts(self, device: str) -> dict[str, Any]:
        """All facts on which a measurement depends; `device` is the name of the device."""
        hashes = {k: v for cell in self.cells for k, v in cell.hashes.items() if k not in ("purifier", "rule")}
        versions = {k: v for cell in self.cells for k, v in cell.versions.items() if k != "noise"}
        return {
            "options": dict(self.options),
            "device": device,
            "torch": torch.__version__,
            "image": list(self.images.shape[1:]),
            "sigmas": self.sigmas,
            "classifier": {k: v for k, v in self.cells[0].classifier_parameters.items() if k != "path"},
            "hashes": hashes,
            "versions": versions,
        }

    def trials(self, loader: Loader) -> Trials:
        """Trials of the networks of the sweep."""
        prefix = "network "
        roles = {name.removeprefix(prefix): c for c in self.cells for name in c.hashes if name.startswith(prefix)}
        return Trials(loader, roles, self.cells[0], sorted(set(self.sigmas)), self.images)


def tune(request: TuningRequest, loader: Loader, notify: Callable[[str], object] = lambda _: None) -> dict[str, Any]:
    """The result of `_search` with the name of the `device`, from the user's cache or measured now.

    Parameters:
        loader: of the device.
        notify: called with a message before measuring begins.
    """
    device = device_name(loader.device)
    facts = request.facts(device)
    result = recalled(facts)
    if result is None:
        notify("measuring how these networks compute fastest on this device; the result is kept for later runs")
        result = _search(request.trials(loader), request.options)
        tuning_cache.remember(facts, result)
    return {"device": device, **result}


class _Chosen(BaseModel):
    """Fields and values of a `ComputeConfig`."""

    model_config = ConfigDict(strict=True, extra="forbid")
    precision: Literal["fp32", "tf32", "bf16", "fp16"]
    channels_last: bool
    compile: Literal["no", "default", "reduce-overhead", "max-autotune"]
    rows: Annotated[int, Field(ge=1, le=_MOST_ROWS)]
    classifier: str | None


class _Result(BaseModel):
    chosen: _Chosen
    batch: Annotated[int, Field(ge=1, le=_MOST_ROWS)]


def recalled(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The result of `_search` in the user's cache; None if there is none or it is damaged, so that it is made again."""
    result = tuning_cache.recall(facts)
    with suppress(InputError):
        validated(_Result, result)
        return result
    return None


def _search(trials: Trials, options: Mapping[str, Any]) -> dict[str, Any]:
    """Measure the configurations that the options allow; returns `chosen`, `batch` and the measurements as JSON.

    Raises:
        LoadError: a network cannot be loaded, or cannot be compiled though the options ask for it.
    """
    device = trials.loader.device.type
    best = _default(options, device)
    distances: dict[ComputeConfig, float] = {}

    def is_faithful(config: ComputeConfig) -> bool:
        try:
            distances[config] = trials.distance(config)
        except LoadError:
            if config.compile == "no" or options["compile"] != AUTO:
                raise
            return False  # torch cannot compile it here, and `auto` does not need it
        return (config.precision == "fp32" and config.compile == "no") or distances[config] <= _TOLERANCE

    result: dict[str, Any] = {}
    rows = _number(options["rows"], 0)
    batch = rows or best.rows
    if AUTO in (options["batch"], options["rows"]):
        batch, result["rates"] = trials.knee(best)
    (once,) = trials.seconds([best], 10, classifier=True)
    timed = partial(trials.seconds, rows=max(4, min(_TIMED_ROWS, int(10 * LONG_CALL / 4 / once))))
    likely = best.precision  # of a compiled network, whose speed an eager one does not predict
    if trials.cells:
        layouts = [False, True] if options["channels_last"] == AUTO else [best.channels_last]
        configs = [replace(best, precision=p, channels_last=c) for p in _precisions(options, device) for c in layouts]
        configs = [config for config in dict.fromkeys([best, *configs]) if is_faithful(config)]
        configs = configs or [replace(best, precision="fp32")]
        likely, best = configs[0].precision, fastest(configs, timed, _MARGIN)
    if options["classifier"] == AUTO:
        other = replace(best, classifier="bf16")
        result["logits"] = trials.logit_distance(other, best)
        if result["logits"] <= _LOGIT_TOLERANCE:
            best = fastest([best, other], partial(timed, networks=False, classifier=True), _MARGIN)
    if options["compile"] != "no":
        auto_modes = ["default", "reduce-overhead"] if device == "cuda" else ["default"]
        # Compiled loops of a CPU need channels innermost, whichever layout suits its eager kernels.
        channels_last = best.channels_last or (options["channels_last"] == AUTO and device != "cuda")
        configs = [
            replace(best, precision=precision, compile=mode, rows=rows or batch, channels_last=channels_last)
            for precision in dict.fromkeys([likely, best.precision])
            for mode in (auto_modes if options["compile"] == AUTO else [options["compile"]])
        ]
        timed = partial(trials.seconds, rows=rows or batch, classifier=True)
        configs = [config for config in configs if options["compile"] != AUTO or is_faithful(config)]
        best = fastest([best, *configs] if options["compile"] == AUTO else configs, timed, _MARGIN)
    result["distances"] = [{**asdict(config), "distance": distance} for config, distance in distances.items()]
    return {**result, "chosen": asdict(best), "batch": _number(options["batch"], batch), "tolerance": _TOLERANCE}


def _default(options: Mapping[str, Any], device: str) -> ComputeConfig:
    """The options, with the default of the device type instead of `auto`; not compiled."""
    return ComputeConfig(
        precision=choose_precision(options["precision"], device),
        channels_last=options["channels_last"] is True,
        rows=_number(options["rows"], DEFAULT_ROWS[device]),
        classifier="fp32" if options["classifier"] == AUTO else options["classifier"],
    )


def _number(option: int | str, default: int) -> int:
    return default if isinstance(option, str) else option


def _precisions(options: Mapping[str, Any], device: str) -> list[str]:
    """The precisions to try: those for which the device has instructions, as others are slow."""
    if options["precision"] != AUTO:
        return [options["precision"]]
    fast = choose_precision(AUTO, device)
    return list(dict.fromkeys([fast, "fp32", *(["tf32", "fp16"] if device == "cuda" else [])]))
