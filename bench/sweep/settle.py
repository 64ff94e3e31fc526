"""Replace `auto` in a plan by the way of computing that is measured to be fastest on a device.

The choice, never `auto`, is part of a cell's identity, and the manifest records the measurements. A folder that is
continued keeps its own choice, so that neither another machine, nor its load, nor its cache makes other cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bench.engine import Loader, refuse_unsupported
from bench.engine.autotune import AUTO, TuningRequest, tune
from bench.engine.devices import prepare_device
from bench.engine.trials import ComputeConfig
from bench.errors import InputError
from bench.sweep.plan import Plan

_SAMPLE = 16  # images in a request


def settle_options(
    planned: Plan,
    device: str,
    measure: Callable[[TuningRequest], dict[str, Any]] | None = None,
    notify: Callable[[str], object] = lambda _: None,
    before: Mapping[str, Any] | None = None,
) -> Plan:
    """A plan whose cells record how they compute.

    Parameters:
        device: of the networks, such as `cuda:0`; its kind suffices with `measure`.
        measure: measures on another machine, as `autotune.tune` does here; None: measure here.
        notify: called with a message before measuring begins here, or if an earlier choice is kept.
        before: manifest of the folder that is continued; what it settled is kept for options that are `auto`.

    Raises:
        ValueError: the device does not support an option.
        LoadError: a network cannot be loaded or compiled.
    """
    request = _request_of(planned)
    asked, settled = dict(request.options), _settled(before or {}, device)
    options = {name: settled.get(name, value) if value == AUTO else value for name, value in asked.items()}
    refuse_unsupported(options["precision"], options["compile"], device)
    if options != asked:
        kept = ", ".join(f"{name} {value}" for name, value in options.items() if value != asked[name])
        notify(f"the cells of this folder were counted with {kept}, which is kept; name another to count other cells")
    if AUTO not in options.values():
        config = {name: value for name, value in options.items() if name != "batch"}
        record = (before or {}).get("tuning", {}) if options != asked else {}
        return _apply(planned, ComputeConfig(**config), options["batch"], record)
    request = replace(request, options=options)
    result = measure(request) if measure else tune(request, _loader_of(planned, device), notify)
    return _apply(planned, ComputeConfig(**result["chosen"]), int(result["batch"]), {"asked": asked, **result})


def _settled(before: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The options with which a folder was counted on a kind of device, from its manifest; empty if it was not."""
    preset = before.get("preset", {})
    if counted_on(before) != device.split(":")[0]:
        return {}
    options = {name: preset.get(name, AUTO) for name in ("precision", "channels_last", "compile", "rows", "batch")}
    options["classifier"] = preset.get("classifier", {}).get("precision", "fp32")
    return {name: value for name, value in options.items() if value != AUTO}


def counted_on(before: Mapping[str, Any]) -> str:
    """The kind of device (`cpu` or `cuda`) on which a folder was counted, from its manifest; empty if it was not."""
    return next((str(device).split(":")[0] for device in before.get("devices") or ()), "")


def device_of(asked: str, before: Mapping[str, Any], here: Callable[[str], object]) -> str:
    """The option `device` for a folder: `auto` becomes the kind of device on which it was counted.

    Parameters:
        before: manifest of the folder that is continued.
        here: raises ValueError if this machine does not have a device.

    Raises:
        InputError: this machine does not have that kind of device.
    """
    if asked != AUTO or not (kind := counted_on(before)):
        return asked
    try:
        here(kind)
    except ValueError as error:
        raise InputError(
            f"the cells of this folder were counted on {kind}, which is not here ({error}); continue it where it is, "
            "give another --out, or name a --device to count other cells"
        ) from error
    return kind


def _request_of(planned: Plan) -> TuningRequest:
    """The options that a plan leaves to `auto`."""
    preset = planned.preset
    options = {name: getattr(preset, name) for name in ("precision", "channels_last", "compile", "rows", "batch")}
    if preset.compile == "no" and preset.rows == AUTO:
        options["rows"] = planned.cells[0].compute["rows"]  # eager networks are about as fast with any number
    options["classifier"] = planned.cells[0].classifier_parameters.get("precision")
    images = np.stack([planned.split.images[i] for i in planned.images[:_SAMPLE]])
    return TuningRequest(options, planned.cells, images)


def _loader_of(planned: Plan, device: str) -> Loader:
    shape = planned.split.images[planned.images[0]].shape
    return Loader(planned.weights, prepare_device(device), shape, planned.plugin_files)


def _apply(planned: Plan, config: ComputeConfig, batch: int, record: dict[str, Any]) -> Plan:
    """The plan whose preset and cells have the chosen configuration."""
    update = {name: value for name, value in asdict(config).items() if name != "classifier"} | {"batch": batch}
    if config.classifier is not None:
        update["classifier"] = planned.preset.classifier.model_copy(update={"precision": config.classifier})
    return replace(
        planned,
        preset=planned.preset.model_copy(update=update),
        cells=[config.apply(cell) for cell in planned.cells],
        tuning=record,
    )
