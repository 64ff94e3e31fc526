"""How many draws a sweep needs, and how long they take, by a measurement on this machine or by a published rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.certify import rules
from bench.doctor.requirements import Need, weights_of
from bench.sweep import Preset
from bench.sweep.draws import evaluations, sweep_bounds

# Users of diffusion_denoised_smoothing (its issue 1) report this number of draws per second on one A100, with one
# evaluation of a network of 50 million parameters at 32x32 and one of ViT-B/16 at 224. No other size is reported.
_STATED = 825.0
_STATED_SOURCE = f"stated: {_STATED:g} draws/s of one evaluation and ViT-B/16 on one A100, by users of its code"
_STATED_FOR = ("cifar10", "cifar10-jpeg", "cifar100")
_QUICK = 100_000_000  # bytes of weights above which a measurement on a CPU would take minutes
_measured: dict[str, float] = {}  # key of a cell -> seconds per draw, since presets share cells


def seconds_per_draw(
    preset: Preset, purifiers: Sequence[Any], needs: Sequence[Need], devices: Sequence[str]
) -> tuple[float, str] | None:
    """Seconds for one draw of every purifier, all devices together, and the source; None if no source is known.

    The source is a small measurement if everything that the preset needs is present, and a published rate otherwise.
    Networks that are large for a CPU are not measured on one.
    """
    quick = devices[0].startswith("cuda") or weights_of(needs) < _QUICK
    if quick and all(need.present for need in needs):
        source = f"measured: one eager batch of each purifier here, {len(devices)} workers"
        return sum(_measure(preset, devices[0])) / len(devices), source
    if preset.dataset not in _STATED_FOR:
        return None
    total = sum(max(1, evaluations(purifier, sigma)) for purifier in purifiers for sigma in preset.sigmas)
    return total / len(preset.sigmas) / _STATED, _STATED_SOURCE


def duration(preset: Preset, purifiers: Sequence[Any], needs: Sequence[Need], devices: Sequence[str]) -> str:
    """The most draws of a sweep and the time that they take, in words."""
    _, most = sweep_bounds(preset)
    total = f"{most * len(purifiers):,} draws"
    rate = seconds_per_draw(preset, purifiers, needs, devices)
    if rate is None:
        return f"{total}, time unknown (no rate is stated for such networks; `bench run --images 1` shows one)"
    seconds, source = rate
    about = preset.certifier not in rules.SEQUENTIAL and source != _STATED_SOURCE
    return f"{total}, {'about' if about else 'at most'} {span(most * seconds)} ({source})"


def _measure(preset: Preset, device: str) -> list[float]:
    """Seconds per draw of every purifier at the middle sigma, on one worker, without its start-up."""
    from bench.engine import Engine
    from bench.engine.devices import choose_precision, prepare_device
    from bench.records import Block, Task
    from bench.sweep import images_of, make_plan, settle_options, without_rule

    middle = sorted(preset.sigmas)[len(preset.sigmas) // 2]
    # Tuning would take minutes, so `auto` is replaced by what needs no measurement.
    untuned = {"precision": choose_precision("auto", device), "channels_last": False, "compile": "no"}
    update = {name: value for name, value in untuned.items() if getattr(preset, name) == "auto"}
    update |= {"sigmas": [middle], "images": 1}
    planned = make_plan(preset.model_copy(update=update), device.split(":")[0])
    planned = settle_options(planned, device)
    engine = Engine(images_of(planned), planned.weights, prepare_device(device), planned.plugin_files)
    seconds = []
    for cell in planned.cells:
        key = without_rule(cell).key
        if key not in _measured:
            draws: Any = cell.compute["rows"]  # fewer would take as long
            (counts,) = engine.run(Task(cell, (Block(cell.key, planned.images[0], "estimate", 0, draws),)))
            cost = counts.cost
            _measured[key] = (cost.noise_s + cost.purify_s + cost.classify_s) / draws
        seconds.append(_measured[key])
    return seconds


def span(seconds: float) -> str:
    """A duration in the largest unit of which it has two or more."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:.0f} s"
