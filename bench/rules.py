"""Which certifier a sweep asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.certify import Certifier, Cohen

COHEN, SEQUENTIAL = "cohen", "sequential"  # `sequential` is short for its preset `tight`


def of_sweep(sweep: Mapping[str, Any], sigma: float) -> Certifier:
    """The certifier of a sweep, as its preset (or a manifest's copy of it) asks for.

    A sequential rule decides the radii of the sweep, and no others. Raises ValueError for an unknown rule.
    """
    name = sweep.get("certifier", COHEN)
    if name == COHEN:
        return Cohen(sigma, sweep["n0"], sweep["n"], sweep["alpha"], sweep["block"])
    from bench.sequential import Sequential  # its mathematics takes seconds to import

    preset = "tight" if name == SEQUENTIAL else name
    return Sequential(sigma, tuple(sweep["radii"]), sweep["n0"], sweep["alpha"], preset, sweep["block"])
