"""Replace `auto` in a plan by the way of computing that is measured to be fastest on a device.

The choice, never `auto`, is part of a cell's identity, and the manifest records the measurements. A folder that is
continued keeps its own choice, so that neither another machine, nor its load, nor its cache makes other cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from typing import Any, get_args, get_type_hints

import numpy as np

from bench.engine import Loader, refuse_unsupported
from bench.engine.compute import ComputeConfig
from bench.engine.devices import choose_precision, prepare_device
from bench.engine.tuning.tune import AUTO, TuningRequest, tune
from bench.errors import InputError
from bench.records import Cell
from bench.sweep.draws import rows_of_networks
from bench.sweep.plan import Plan, refuse_doubles
from bench.sweep.preset import Plugin, Preset
from bench.sweep.resolved import resolve

_SAMPLE = 16  # images in a request
_MEASURED = ("precision", "channels_last", "compile", "batch")  # `auto` on a GPU unless a preset or its user names them
_PROBE = {"cpu": 1024, "cuda": 8192}  # side of the matrices whose products tell what another precision may gain


def with_device_defaults(preset: Preset, device_type: str) -> Preset:
    """The preset with `auto` for what it leaves open on a GPU; presets of published protocols stay as they are."""
    if device_type != "cuda" or preset.protocol:
        return preset
    update: dict[str, Any] = {name: AUTO for name in _MEASURED if name not in preset.model_fields_set}
    resolved = resolve(preset)
    update["classifier"] = _with_precision(preset.classifier, resolved.classifier)
    update["purifiers"] = [
        purifier.model_copy(update={"classifier": _with_precision(purifier.classifier, of[preset.sigmas[0]])})
        if purifier.classifier
        else purifier
        for purifier, of in zip(preset.purifiers, resolved.voters, strict=True)
    ]
    return preset.model_copy(update=update)


def _with_precision(plugin: Plugin, classifier: Any) -> Plugin:
    """A classifier's entry, with the precision `auto` where it takes one and names none."""
    hints = get_type_hints(type(classifier)) if "precision" in {field.name for field in fields(classifier)} else {}
    if AUTO in get_args(hints.get("precision")) and "precision" not in plugin.parameters:
        return plugin.model_copy(update={"precision": AUTO})
    return plugin


def advice(preset: Preset, device: str) -> str | None:
    """How much faster a preset of a published protocol may be with `--precision auto`; None if it would gain nothing.

    Measured on products of two matrices, which takes a fraction of a second, so it is a bound on the networks' gain.
    """
    kind = device.split(":")[0]
    fast = choose_precision(AUTO, kind)
    if not preset.protocol or preset.precision != "fp32" or fast == "fp32":
        return None
    from bench.engine.tuning.trials import product_rate

    gain = product_rate(fast, device, _PROBE[kind]) / product_rate("fp32", device, _PROBE[kind])
    return (
        f"{preset.name} computes in fp32, as {preset.protocol} does. This device multiplies matrices {gain:.1f} times "
        f"faster in {fast}: `--precision auto` would be up to so much faster, and counts other cells"
    )


def settle_options(
    planned: Plan,
    device: str,
    measure: Callable[[TuningRequest], dict[str, Any]] | None = None,
    notify: Callable[[str], object] = lambda _: None,
    before: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> Plan:
    """A plan whose cells record how they compute.

    Parameters:
        device: of the networks, such as `cuda:0`; its kind suffices with `measure`.
        workers: that share the draws.
        measure: measures on another machine, as `bench.engine.tuning.tune` does here; None: measure here.
        notify: called with a message before measuring begins here, or if an earlier choice is kept.
        before: manifest of the folder that is continued; what it settled is kept for options that are `auto`.

    Raises:
        ValueError: the device does not support an option.
        LoadError: a network cannot be loaded or compiled.
    """
    request = _request_of(planned, device)
    asked, options = dict(request.options), _with_settled(request.options, _settled(before or {}, device))
    for own in ({}, *options["compute"].values()):
        way = {"precision": options["precision"], "compile": options["compile"], **own}
        refuse_unsupported(way["precision"], way["compile"], device)
    if options != asked:
        kept = ", ".join(f"{name} {value}" for name, value in options.items() if value != asked[name])
        notify(f"the cells of this folder were counted with {kept}, which is kept; name another to count other cells")
    if not _leaves_open(options):
        config = {name: value for name, value in options.items() if name not in ("batch", "compute")}
        record = (before or {}).get("tuning", {}) if options != asked else {}
        return _apply(planned, ComputeConfig(**config, differing=options["compute"]), options["batch"], record)
    request = replace(request, options=options, rows=rows_of_networks(planned, workers))
    result = measure(request) if measure else tune(request, _loader_of(planned, device), notify)
    return _apply(planned, ComputeConfig(**result["chosen"]), int(result["batch"]), {"asked": asked, **result})


def _settled(before: Mapping[str, Any], device: str) -> dict[str, Any]:
    """The options with which a folder was counted on a kind of device, from its manifest; empty if it was not."""
    preset = before.get("preset", {})
    if counted_on(before) != device.split(":")[0]:
        return {}
    options = {name: preset.get(name, AUTO) for name in (*_MEASURED, "rows")}
    options["classifier"] = preset.get("classifier", {}).get("precision", "fp32")
    options = {name: value for name, value in options.items() if value != AUTO}
    return {**options, "compute": preset.get("compute", {})}


def _with_settled(asked: Mapping[str, Any], settled: Mapping[str, Any]) -> dict[str, Any]:
    """The options that are asked for, and settled ones instead of `auto`."""
    if not settled or not _leaves_open(asked):
        return dict(asked)
    options = {name: settled.get(name, value) if value == AUTO else value for name, value in asked.items()}
    named = {role: {k: v for k, v in own.items() if v != AUTO} for role, own in asked["compute"].items()}
    roles = {**settled["compute"], **named}
    return {**options, "compute": {role: {**settled["compute"].get(role, {}), **named.get(role, {})} for role in roles}}


def _leaves_open(options: Mapping[str, Any]) -> bool:
    """Whether an option, or one of a single network, is `auto`."""
    own = (value for ways in options["compute"].values() for value in ways.values())
    return AUTO in [*(value for name, value in options.items() if name != "compute"), *own]


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


def _request_of(planned: Plan, device: str = "cpu") -> TuningRequest:
    """The options that a plan leaves to `auto`."""
    preset = planned.preset
    options = {name: getattr(preset, name) for name in (*_MEASURED, "rows", "compute")}
    compiled = any(own.get("compile", preset.compile) != "no" for own in ({}, *preset.compute.values()))
    if not compiled and preset.rows == AUTO and not (device.startswith("cuda") and preset.batch == AUTO):
        options["rows"] = planned.cells[0].compute["rows"]  # eager networks are about as fast with any number
    cells = sorted(planned.cells, key=lambda cell: cell.own_classifier)  # the preset's classifier is the one measured
    options["classifier"] = cells[0].classifier_parameters.get("precision")
    if options["classifier"] is None and "precision" in preset.classifier.parameters:
        options["classifier"] = preset.classifier.parameters["precision"]
    images = np.stack([planned.split.images[i] for i in planned.images[:_SAMPLE]])
    return TuningRequest(options, cells, images)


def _loader_of(planned: Plan, device: str) -> Loader:
    shape = planned.split.images[planned.images[0]].shape
    return Loader(planned.weights, prepare_device(device), shape, planned.plugin_files)


def _apply(planned: Plan, config: ComputeConfig, batch: int, record: dict[str, Any]) -> Plan:
    """The plan whose preset and cells have the chosen configuration.

    A classifier of a single purifier whose precision is `auto` computes as that of the preset, or in fp32.
    """
    own_precision = config.classifier or "fp32"
    update = {name: value for name, value in asdict(config).items() if name not in ("classifier", "differing")}
    update |= {"batch": batch, "compute": {name: dict(own) for name, own in config.differing.items()}}
    if config.classifier is not None:
        update["classifier"] = planned.preset.classifier.model_copy(update={"precision": config.classifier})
    update["purifiers"] = [
        purifier.model_copy(update={"classifier": own.model_copy(update={"precision": own_precision})})
        if (own := purifier.classifier) and own.parameters.get("precision") == AUTO
        else purifier
        for purifier in planned.preset.purifiers
    ]
    cells = [_in_config(cell, config, own_precision) for cell in planned.cells]
    refuse_doubles(cells)
    return replace(planned, preset=planned.preset.model_copy(update=update), cells=cells, tuning=record)


def _in_config(cell: Cell, config: ComputeConfig, own_precision: str) -> Cell:
    """The cell in a configuration; its own classifier keeps the precision that the preset names."""
    if cell.own_classifier:
        named: Any = cell.classifier_parameters.get("precision")
        config = replace(config, classifier=own_precision if named == AUTO else named)
    return config.apply(cell)
