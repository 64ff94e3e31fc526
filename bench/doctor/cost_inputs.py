"""What a projection starts from: a preset, and rates that were measured."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.doctor.cost import Load, rate
from bench.doctor.requirements import most_evaluations, needs
from bench.errors import PurifyBenchError
from bench.sweep.preset import DEFAULT_BATCH, Preset

SHAPES = {  # images of data sets that need not be here: values of one image, and classes
    "mnist5k": (28 * 28, 10),
    "cifar10": (3 * 32 * 32, 10),
    "cifar10-jpeg": (3 * 32 * 32, 10),
    "cifar100": (3 * 32 * 32, 100),
    "imagenet64": (3 * 64 * 64, 1000),
}
FLOAT = 4  # bytes of a pixel's value as it travels


class CostError(PurifyBenchError):
    """A projection lacks an input; the message says which, and how to give it."""


def label(purifier: Any) -> str:
    """A purifier with its parameters, as a cell names it."""
    from bench.plugins.registry import parameters

    inside = ", ".join(f"{k}={v}" for k, v in parameters(purifier).items())
    return f"{purifier.name}({inside})" if inside else purifier.name


def rates_by_nfe(
    purifiers: Sequence[Any], sigmas: Sequence[float], evaluations: float, classifications: float
) -> dict[str, float]:
    """Draws a second of each purifier, by its documented number of network evaluations (the mean over sigmas)."""
    nfe = {label(p): sum(most_evaluations(p, s) for s in sigmas) / len(sigmas) for p in purifiers}
    return {name: rate(count, evaluations, classifications) for name, count in nfe.items()}


def rates_of_perf(path: Path, pair: str | None, purifiers: Sequence[Any]) -> dict[str, float]:
    """Draws a second of each purifier as `nox -s perf` measured them for a pair of networks.

    Raises:
        CostError: the file, the pair or a purifier is not there.
    """
    try:
        pairs: Mapping[str, Mapping[str, Any]] = json.loads(path.read_text())["pairs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CostError(f"{path} cannot be read as what `nox -s perf` writes ({error})") from error
    if pair is None and len(pairs) == 1:
        pair = next(iter(pairs))
    if pair is None or pair not in pairs:
        raise CostError(f"say by --pair which networks of {path} are meant: {', '.join(pairs)}")
    found = pairs[pair]
    rates = {}
    for purifier in purifiers:
        name = next((n for n in (label(purifier), purifier.name) if n in found), None)
        if name is None:
            raise CostError(f"{path} has no {label(purifier)} for {pair}; it has {', '.join(found)}")
        rates[label(purifier)] = float(found[name]["engine"])
    return rates


def load_of(
    preset: Preset,
    purifiers: Sequence[Any],
    classifier: Any,
    rates: Mapping[str, float],
    devices: int,
    machines: int,
    draws: float | None,
) -> tuple[Load, int]:
    """A preset's sweep on so many devices, and the number of classes.

    Raises:
        CostError: the data set's images have no known size, or a rule that stops early is given no mean.
    """
    from bench.certify import rules

    if preset.dataset not in SHAPES:
        raise CostError(f"how large the images of {preset.dataset} are is not known; choose one of {', '.join(SHAPES)}")
    if draws is None and preset.certifier in rules.SEQUENTIAL:
        raise CostError(
            f"the certifier {preset.certifier} stops early: give by --draws how many it takes for an image on average "
            "(a small run tells, in `bench summary`)"
        )
    values, classes = SHAPES[preset.dataset]
    weights = sum(n.size or 0 for n in needs(preset, purifiers, classifier) if not n.what.startswith("data "))
    load = Load(
        rates=rates,
        sigmas=len(preset.sigmas),
        images=preset.images,
        n0=preset.n0,
        n=float(preset.n if draws is None else draws),
        block=preset.block,
        batch=DEFAULT_BATCH if preset.batch == "auto" else int(preset.batch),
        devices=devices,
        machines=machines,
        parameters=weights,
        pixels=preset.images * values * FLOAT,
    )
    return load, classes
