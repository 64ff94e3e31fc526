"""How long the draws of a sweep take on this machine: by the operations of its networks, or by a call of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

from bench.certify import rules
from bench.doctor.requirements import Need
from bench.sweep import Plugin, Preset
from bench.sweep.draws import evaluations, sweep_bounds
from bench.sweep.resolved import Resolved, text_of

_QUICK = 20_000_000  # bytes of weights above which a call on a CPU, or loading, would take seconds
_SHARE = 0.5  # of the rate of their layers that networks reach, about, since they do more than these layers
_ROWS = 20  # of a timed call; more are as fast a row on a CPU
_SHAPES = {"mnist5k": (1, 28, 28), "cifar10": (3, 32, 32), "cifar10-jpeg": (3, 32, 32), "imagenet64": (3, 64, 64)}
_SHAPES |= {"cifar100": (3, 32, 32)}
# Operations of one evaluation in 1e9, two for each multiplication and addition, by torch's FlopCounterMode: of networks
# by name, by folder of bundled ones or by kind of published ones.
_GFLOP = {
    "mnist5k/": 0.0233,
    "cifar10/": 0.298,
    "cifar10_uncond_50M_500K": 16.8,
    "imagenet64_uncond_100M_1500K": 79.5,
    "64x64_diffusion": 219.4,
    "jcm-edm": 42.4,
    "jcm-consistency": 42.4,
    "cm-edm": 219.3,
    "cm-consistency": 219.3,
}
_CLASSIFIER_GFLOP = {  # by path, or by folder of bundled ones
    "mnist5k/": 0.0035,
    "cifar10/": 0.135,
    "aaraki/vit-base-patch16-224-in21k-finetuned-cifar10": 35.1,
    "google/vit-base-patch16-224": 35.1,
    "cohen2019/resnet110-noise_0.25": 0.51,
}


def seconds_per_draw(
    preset: Preset, resolved: Resolved, needs: Sequence[Need], devices: Sequence[str], calls: bool = True
) -> tuple[float, str] | None:
    """Seconds for one draw of every purifier, all devices together, and the source; None if it cannot be told.

    The operations of bundled and published networks are known, and the rate of layers like theirs is measured here.

    Parameters:
        calls: call small networks that are present, which is more exact; the first one takes seconds to import.
    """
    shape = _SHAPES.get(preset.dataset) or (preset.size and (3, preset.size, preset.size))
    small = {need.name for need in needs if calls and need.present and (need.size or 0) < _QUICK}
    estimated = []

    def seconds(name: str, gflop: float | None, measure: Callable[[], float]) -> float:
        if name in small and shape:
            return measure()
        if gflop is None:
            return math.nan
        estimated.append(name)
        return gflop * 1e9 / _SHARE / _rate(precision, devices[0], 32 if gflop < 0.1 else 64 if gflop < 1 else 256)

    import torch

    from bench.engine.arithmetic import PRECISIONS, is_emulated
    from bench.engine.devices import choose_precision

    precision, device = choose_precision(preset.precision, devices[0]), devices[0]
    if is_emulated(PRECISIONS[precision], torch.device(device)):
        precision = "fp32"  # the engine computes products so

    def vote(plugin: Plugin, voter: Any) -> float:
        text, path = text_of(voter), getattr(voter, "path", "")
        name = f"classifier {voter.name if text == text_of(resolved.classifier) else text}"
        gflop = _CLASSIFIER_GFLOP.get(path, _CLASSIFIER_GFLOP.get(f"{path.partition('/')[0]}/"))
        return seconds(name, gflop, partial(_classifier_s, _text(plugin), shape or (), device))

    votes = [
        {sigma: vote(plugin.at(sigma), voter) for sigma, voter in of.items()}
        for plugin, of in zip(preset.classifiers, resolved.voters, strict=True)
    ]
    networks = {
        role: seconds(
            f"network {role}", _gflop_of(network), partial(_network_s, network, shape or (), precision, device)
        )
        for role, network in preset.networks.items()
        if any(role in purifier.networks for purifier in resolved.purifiers)
    }
    draw = sum(
        vote_s[sigma] + sum(networks[role] for role in p.networks) * evaluations(p, sigma) / max(1, len(p.networks))
        for p, vote_s in zip(resolved.purifiers, votes, strict=True)
        for sigma in preset.sigmas
    ) / len(preset.sigmas)
    if math.isnan(draw):
        return None
    how = (
        "estimated: operations of the networks at the rate of such layers here"
        if estimated
        else "measured: one eager call of each network here"
    )
    return draw / len(devices), f"{how}, {len(devices)} workers"


def duration(
    preset: Preset, resolved: Resolved, needs: Sequence[Need], devices: Sequence[str], calls: bool = True
) -> str:
    """The most draws of a sweep and the time that they take, in words; `calls` as in `seconds_per_draw`."""
    _, most = sweep_bounds(preset)
    total = f"{most * len(resolved.purifiers):,} draws"
    rate = seconds_per_draw(preset, resolved, needs, devices, calls)
    if rate is None:
        return f"{total}, time unknown (nothing is known of such networks; `bench run --images 1` shows their speed)"
    seconds, source = rate
    about = preset.certifier not in rules.SEQUENTIAL
    return f"{total}, {'about' if about else 'at most'} {span(most * seconds)} ({source})"


def _gflop_of(network: str) -> float | None:
    """Operations of a published network in 1e9; None of another one."""
    from purifiers.nets.hub.sources import find

    source = find(network)
    folder = "" if source.known else f"{source.name.partition('/')[0]}/"
    return next((_GFLOP[key] for key in (source.name, folder, source.kind) if key in _GFLOP), None)


@cache
def _network_s(network: str, shape: tuple[int, ...], precision: str, device: str) -> float:
    """Seconds of a row of a network, eager."""
    from bench.engine.arithmetic import PRECISIONS
    from purifiers.nets import load

    denoiser: Any = load(network, device=device).compute_in(PRECISIONS[precision])
    return _timed(lambda x: denoiser(x, 1.0), shape, device)


@cache
def _classifier_s(text: str, shape: tuple[int, ...], device: str) -> float:
    """Seconds of a row of a classifier, given as `name:parameter=value`."""
    from bench.plugins import registry as plugins
    from bench.plugins.notation import Plugin

    plugin = Plugin.model_validate(text)
    loaded = plugins.create(plugins.CLASSIFIER, plugin.name, plugin.parameters).load(device)
    return _timed(loaded, shape, device)


def _text(plugin: Plugin) -> str:
    """A classifier in one text; `auto` becomes fp32."""
    parameters = {k: "fp32" if v == "auto" else v for k, v in plugin.parameters.items()}
    return ":".join([plugin.name, *(f"{name}={value}" for name, value in parameters.items())])


@cache
def _rate(precision: str, device: str, channels: int) -> float:
    """Operations a second of one worker in a layer like those of UNets: convolution, normalisation, activation."""
    import torch
    from torch import nn

    from bench.engine.arithmetic import PRECISIONS, float32_arithmetic

    side, rows = 16, 256 if device.startswith("cuda") else max(2, 512 // channels)
    place, kind = torch.device(device), PRECISIONS[precision]
    layer = nn.Sequential(nn.GroupNorm(8, channels), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1))
    layer.to(place, kind)
    with float32_arithmetic(precision, place):
        seconds = _timed(lambda x: layer(x.to(kind)), (channels, side, side), device, rows)
    return 2 * 9 * channels**2 * side**2 / seconds


def _timed(call: Callable[[Any], Any], shape: tuple[int, ...], device: str, rows: int = _ROWS) -> float:
    """Seconds of a row, the fastest of two calls after a first one, on one thread of a CPU as in a worker."""
    import torch

    from bench.engine.devices import prepare_device, synchronize

    place, best = prepare_device(device), math.inf
    with torch.inference_mode():
        x = torch.rand(rows, *shape, device=place)
        for attempt in range(3):
            synchronize(place)
            started = time.perf_counter()
            call(x)
            synchronize(place)
            if attempt:
                best = min(best, time.perf_counter() - started)
    return best / rows


def span(seconds: float) -> str:
    """A duration in the largest unit of which it has two or more, to two digits: an estimate has no more."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{float(f'{seconds / length:.2g}'):,.0f} {unit}"
    return f"{seconds:.0f} s"
