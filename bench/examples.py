"""A few images as the sweep saw them: clean, noisy, purified, with the class that each draw was given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from bench.engine import Engine, PluginFault
from bench.examples_file import Examples, Panel
from bench.plan import Plan
from bench.types import Cell

COUNT = 8


def make_examples(plan: Plan, engine: Engine, cells: Sequence[Cell]) -> Examples:
    """The first estimation draw of `COUNT` images, by every cell that works."""
    step = max(1, len(plan.images) // COUNT)
    images = [plan.images[i] for i in range(0, len(plan.images), step)][:COUNT]
    panels = []
    for cell in cells:
        try:
            noisy, purified, predicted = engine.show(cell, images)
        except PluginFault:
            continue  # the sweep has said why
        panels.append(Panel(cell.label, cell.sigma, as_bytes(noisy), as_bytes(purified), predicted.numpy()))
    clean = np.round(plan.split.images[images] * 255).astype(np.uint8)
    return Examples(np.array(images), plan.split.labels[images], plan.split.classes, clean, tuple(panels))


def as_bytes(x: Tensor) -> np.ndarray:
    return (x.clamp(0, 1) * 255).round().byte().numpy()
