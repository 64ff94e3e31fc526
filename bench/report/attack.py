"""The section about attacks: certificates tried and broken, and the gap between certified and attacked accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.report.figures import short
from bench.store.attacks import AttackedCell, Attacks
from bench.summary.format import percent

_WIDTH, _HEIGHT, _POINTS = 240, 60, 160  # of a small curve, in pixels


def attacks_section(table: pd.DataFrame, attacks: Mapping[str, Attacks]) -> dict[str, Any]:
    """The attacked cells with their figures and curves, the settings, and the reasons why cells are missing.

    Parameters:
        table: the rows of `bench.summary.rows.drawable`.
        attacks: by run.
    """
    cells = {(run, cell.cell): (cell, of_run) for run, of_run in attacks.items() for cell in of_run.cells}
    rows = []
    for row in table.to_dict("records"):
        if (row["run"], row["cell"]) in cells:
            cell, of_run = cells[row["run"], row["cell"]]
            rows.append({"name": row["series"], "family": row["family"], "sigma": row["sigma"], **_row(cell, of_run)})
    settings = dict.fromkeys(map(_settings, attacks.values()))
    missing = [(run, where, why) for run, of_run in attacks.items() for where, why in of_run.missing.items()]
    return {"rows": rows, "settings": "; ".join(settings), "missing": missing, "width": _WIDTH, "height": _HEIGHT}


def _row(cell: AttackedCell, attacks: Attacks) -> dict[str, Any]:
    found = attacks.table.set_index("cell").loc[cell.cell]
    end = max([image.attacked or image.radius for image in cell.images], default=1.0)
    radii = np.linspace(0, end, _POINTS)
    certified, attacked = cell.certified_at(radii), cell.attacked_at(radii)
    widest = int(np.argmax(attacked - certified))
    return {
        "tried": len(cell.images),
        "broken": cell.broken,
        "expected": short(found["expected"]),
        "certified": short(found["certified_median"]),
        "attacked": short(found["attacked_median"]),
        "gap": f"{percent(attacked[widest] - certified[widest])} at {radii[widest]:.2f}",
        "end": f"{end:.2f}",
        "gradient": cell.gradient,
        "paths": {"certified": _path(radii / end, certified), "attacked": _path(radii / end, attacked)},
    }


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A curve in the unit square as the path of an SVG picture."""
    points = " L".join(f"{_WIDTH * a:.1f} {_HEIGHT * (1 - b):.1f}" for a, b in zip(x, y, strict=True))
    return f"M{points}"


def _settings(attacks: Attacks) -> str:
    return (
        f"{attacks.images} images, {attacks.attack}, {attacks.restarts} restarts, {attacks.rounds} rounds, verdicts by "
        f"{attacks.draws} fresh draws at level {attacks.level:g} for all certificates of a row together"
    )
