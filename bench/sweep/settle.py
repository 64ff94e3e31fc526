"""Replace `auto` in a plan by the way of computing that is measured to be fastest on a device.

The choice, never `auto`, is part of a cell's identity, and the manifest records the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from bench.engine import Loader, refuse_unsupported
from bench.engine.autotune import AUTO, TuningRequest, tune
from bench.engine.devices import prepare_device
from bench.engine.trials import ComputeConfig
from bench.sweep.plan import Plan

_SAMPLE = 16  # images in a request


def settle_options(
    planned: Plan,
    device: str,
    measure: Callable[[TuningRequest], dict[str, Any]] | None = None,
    notify: Callable[[str], object] = lambda _: None,
) -> Plan:
    """A plan whose cells record how they compute.

    Parameters:
        device: of the networks, such as `cuda:0`; its kind suffices with `measure`.
        measure: measures on another machine, as `autotune.tune` does here; None: measure here.
        notify: called with a message before measuring begins here.

    Raises:
        ValueError: the device does not support an option.
        LoadError: a network cannot be loaded or compiled.
    """
    refuse_unsupported(planned.preset.precision, planned.preset.compile, device)
    request = _request_of(planned)
    if AUTO not in request.options.values():
        options = {name: value for name, value in request.options.items() if name != "batch"}
        return _apply(planned, ComputeConfig(**options), request.options["batch"], {})
    result = measure(request) if measure else tune(request, _loader_of(planned, device), notify)
    record = {"asked": dict(request.options), **result}
    return _apply(planned, ComputeConfig(**result["chosen"]), int(result["batch"]), record)


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
