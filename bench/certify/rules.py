"""Which certifier a sweep asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.certify.base import Certifier
from bench.certify.fixed import BOUNDS, FixedN

FIXED = tuple(BOUNDS)
SEQUENTIAL = ("tight", "parity", "half-point", "fast", "acr")
NAMES = (*FIXED, *SEQUENTIAL)


def of_sweep(sweep: Mapping[str, Any], sigma: float) -> Certifier:
    """The certifier of a sweep, as its preset (or a manifest's copy of it) asks for.

    A sequential rule decides the radii of the sweep, and no others; `acr` has a fine family of them.

    Raises:
        ValueError: unknown rule, or figures that it refuses or that are missing.
    """
    name = sweep.get("certifier", "cohen")
    lacking = [what for what in ("n0", "n" if name in FIXED else "radii", "alpha", "block") if what not in sweep]
    if lacking:
        raise ValueError(
            f"this run does not say its {', '.join(lacking)}; the same `bench run` writes its manifest anew"
        )
    if name in FIXED:
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
