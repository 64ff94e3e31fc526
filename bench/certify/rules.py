"""Build the certifier that a sweep's preset names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.certify.base import Certifier, refuse_draws
from bench.certify.fixed import BOUNDS, FixedN
from bench.errors import InputError

_FIXED = tuple(BOUNDS)
SEQUENTIAL = ("tight", "parity", "half-point", "fast", "acr")
NAMES = (*_FIXED, *SEQUENTIAL)


def of_sweep(sweep: Mapping[str, Any], sigma: float) -> Certifier:
    """The certifier of a sweep, from the fields of its preset or of its manifest.

    A sequential rule decides the radii of the sweep only; `acr` uses a fine family of radii.

    Raises:
        ValueError: a field is missing, or the rule refuses its value.
    """
    name = sweep.get("certifier", "cohen")
    required = ("n0", "n" if name in _FIXED else "radii", "alpha", "block")
    if missing := [field for field in required if field not in sweep]:
        raise InputError(f"the manifest of this run lacks {', '.join(missing)}; the same `bench run` writes it again")
    most = "n" if name in _FIXED else "n_max"
    refuse_draws(sweep["block"], **{"n0": sweep["n0"], most: sweep.get(most)})
    if name in _FIXED:
        constants = sweep["n0"], sweep["n"], sweep["alpha"], sweep["block"], name, sweep.get("seed", 0)
        return FixedN(sigma, *constants, digits=sweep.get("radius_digits"))
    from bench.certify.sequential import Sequential, fine_family

    return Sequential(
        sigma=sigma,
        radii=fine_family(sweep["radii"], sigma) if name == "acr" else tuple(sweep["radii"]),
        n0=sweep["n0"],
        alpha=sweep["alpha"],
        preset=name,
        block=sweep["block"],
        label_aware=sweep.get("label_aware", False),
        n_max=sweep.get("n_max"),
    )
