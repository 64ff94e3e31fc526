"""The static costs of a sweep's cells, which `manifest["costs"]` holds by key: counted once, on no draw of the run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from bench.executors import Executor
from bench.records import StaticCost
from bench.sweep.plan import Plan

COSTS = "costs"


def weigh_cells(
    planned: Plan, executor: Executor, before: Mapping[str, Any], notify: Callable[[str], object]
) -> Callable[[], dict[str, Any]]:
    """Ask for the static costs of the cells that lack them; the returned function waits, and gives those of all cells.

    A cost that cannot be counted is left out, and fails nothing.

    Parameters:
        before: manifest of the earlier sessions; empty for a new run.
    """
    known = dict(before.get(COSTS, {}))
    cells = [cell for cell in planned.cells if cell.key not in known]
    asked = executor.weigh(cells) if cells else None

    def costs() -> dict[str, Any]:
        if asked is None:
            return known
        try:
            found = asked.result(planned.preset.timeout)
        except Exception as error:  # a worker died, or took too long; the sweep itself tells if that goes on
            found = [f"{type(error).__name__}: {error}"] * len(cells)
        weighed = {c.key: asdict(cost) for c, cost in zip(cells, found, strict=True) if isinstance(cost, StaticCost)}
        if len(weighed) < len(cells):
            first = next(cost for cost in found if isinstance(cost, str))
            notify(f"the FLOPs of {len(cells) - len(weighed)} of {len(planned.cells)} cells are not known ({first})")
        return known | weighed

    return costs
