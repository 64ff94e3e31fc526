"""Example images of a sweep: clean, noisy and purified, with the predicted class of each draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.engine import LoadError, PluginFault
from bench.errors import RunError
from bench.executors import Executor, describe_cell, timeout_message
from bench.records import Cell
from bench.store import Examples, Panel
from bench.sweep.plan import Plan

_COUNT = 8


def make_examples(plan: Plan, executor: Executor, cells: Sequence[Cell]) -> Examples:
    """The first estimation draw of `_COUNT` images in every cell that did not fail.

    Raises:
        RuntimeError: no result within the preset's `timeout`.
    """
    step = max(1, len(plan.images) // _COUNT)
    images = [plan.images[i] for i in range(0, len(plan.images), step)][:_COUNT]
    panels = []
    for cell, shown in [(cell, executor.show(cell, images)) for cell in cells]:
        try:
            noisy, purified, predicted = shown.result(plan.preset.timeout)
        except (PluginFault, LoadError):
            continue  # the sweep has reported the error
        except TimeoutError as error:
            raise RunError(timeout_message(plan.preset.timeout, describe_cell(cell))) from error
        panels.append(Panel(cell.label, cell.sigma, _as_bytes(noisy), _as_bytes(purified), predicted))
    clean = _as_bytes(plan.split.images[images])
    return Examples(np.array(images), plan.split.labels[images], plan.split.classes, clean, tuple(panels))


def _as_bytes(x: np.ndarray) -> np.ndarray:
    return (x.clip(0, 1) * 255).round().astype(np.uint8)
