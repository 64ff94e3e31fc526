"""How many draws a sweep makes, and how many rows each network evaluates for them. Pure; loads no network."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from bench.certify import largest_radius, rules
from bench.plugins import registry as plugins
from bench.records import Cell
from bench.sweep.preset import Preset

if TYPE_CHECKING:
    from bench.sweep.plan import Plan


def draw_bounds(preset: Preset, sigma: float) -> tuple[int, int]:
    """Fewest and most draws of one image at one sigma; equal under rules that draw equally often for every image."""
    rule: Any = rules.of_sweep(preset.model_dump(), sigma)
    if preset.certifier not in rules.SEQUENTIAL:
        return preset.n0 + preset.n, preset.n0 + preset.n
    looks = rule.constants.looks
    # A label-aware rule stops misclassified images after the selection, and no rule tests radii that it cannot prove.
    stops_at_once = preset.label_aware or rule.radii[0] > largest_radius(looks[-1], preset.alpha, sigma)
    return preset.n0 + (0 if stops_at_once else looks[0]), preset.n0 + looks[-1]


def sweep_bounds(preset: Preset) -> tuple[int, int]:
    """Fewest and most draws of one purifier over all images and sigmas."""
    fewest, most = zip(*(draw_bounds(preset, sigma) for sigma in preset.sigmas), strict=True)
    return preset.images * sum(fewest), preset.images * sum(most)


def evaluations(purifier: Any, sigma: float) -> int:
    """The documented number of network evaluations of a draw, or the number on the published grid of noise levels."""
    from purifiers.conditioning import grid_from

    documented = purifier.nfe()
    return 2 * len(grid_from(2 * sigma)) - 1 if documented is None else documented


def evaluations_of(planned: Plan, cell: Cell) -> int:
    """`evaluations` of a planned cell's purifier at its sigma."""
    return evaluations(_purifier_of(planned, cell), cell.sigma)


def _purifier_of(planned: Plan, cell: Cell) -> Any:
    named = planned.plugin_files.get(plugins.PURIFIER.name, {}).get(cell.purifier, cell.purifier)
    return plugins.create(plugins.PURIFIER, named, cell.parameters)


def rows_of_networks(planned: Plan, workers: int) -> dict[str, float]:
    """Role, or `classifier` -> rows that each of `workers` evaluates in a sweep, about.

    A sequential rule is taken to make the geometric mean of its fewest and its most draws.
    """
    rows: dict[str, float] = defaultdict(float)
    for cell in planned.cells:
        purifier = _purifier_of(planned, cell)
        draws = len(planned.images) * math.sqrt(math.prod(draw_bounds(planned.preset, cell.sigma)))
        rows["classifier"] += draws / workers
        for role in purifier.networks:
            rows[role] += draws * evaluations(purifier, cell.sigma) / len(purifier.networks) / workers
    return dict(rows)
