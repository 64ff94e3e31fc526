"""Example images of a sweep: clean, noisy and purified, with the predicted class of each draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bench.engine import LoadError, PluginFault
from bench.errors import RunError
from bench.executors import Executor, describe_cell, timeout_message
from bench.records import Cell
from bench.store import Examples, Panel
from bench.sweep.plan import Plan

_COUNT = 8


def make_examples(plan: Plan, executor: Executor, cells: Sequence[Cell]) -> Examples:
    """The first estimation draw of some images in every cell that did not fail.

    Raises:
        RuntimeError: no result within the preset's `timeout`.
    """
    images = _chosen(plan.labels, plan.preset.seed)
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


def _chosen(labels: Mapping[int, int], seed: int) -> list[int]:
    """About `_COUNT` images, by their numbers: one of each class, of at most twice as many classes, and then more.

    Parameters:
        labels: class of each image.
        seed: chooses the classes, if there are too many, and the images.
    """
    generator = np.random.default_rng(seed)
    shuffled = generator.permutation(sorted(labels)).tolist()
    by_class: dict[int, list[int]] = {}
    for image in shuffled:
        by_class.setdefault(labels[image], []).append(image)
    rounds = [[own[k] for own in by_class.values() if k < len(own)] for k in range(_COUNT)]
    most = max(_COUNT, min(len(by_class), 2 * _COUNT))
    return sorted([image for one in rounds for image in one][:most], key=lambda image: (labels[image], image))


def _as_bytes(x: np.ndarray) -> np.ndarray:
    return (x.clip(0, 1) * 255).round().astype(np.uint8)
