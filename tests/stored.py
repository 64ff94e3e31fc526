"""A small run in a store, for the tests of what is stored and of what is read back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from bench.records import Block, Cell, Cost, Counts
from bench.store.run import export, read_run
from bench.store.store import Store

COST = Cost(nfe=20, classifier_rows=10, noise_s=0.25, purify_s=0.5, classify_s=0.125, peak_bytes=1 << 33, device="CPU")


def make_cell(purifier: str = "none", sigma: float = 0.5, **parameters: object) -> Cell:
    hashes = {"noise": "n", "purifier": "p"}
    return Cell(purifier, parameters, "cnn", {"path": "x"}, "mnist5k", "data", sigma, 0, "fp32", "cpu", hashes)


def make_counts(cell: Cell, image: int = 0, stage: str = "estimate", first: int = 0, votes=(7, 3)) -> Counts:
    return Counts(Block(cell.key, image, stage, first, sum(votes)), tuple(votes), COST)


PRESET = {"certifier": "cohen", "n0": 4, "n": 10, "n_max": None, "alpha": 0.4, "block": 10, "images": 1}
PRESET |= {"radii": [0.0], "seed": 0, "label_aware": False}


def make_manifest(*cells: Cell, **others: object) -> dict:
    """What decides a figure; runs record more."""
    classes = [str(number) for number in range(10)]
    record = {"format": 1, "preset": PRESET, "sweep": [cell.key for cell in cells], "labels": {"0": 3}}
    return record | {"classes": classes, "families": {cell.purifier: "other" for cell in cells}, **others}


def closed_run(folder: Path, fill: Callable[[Store], None]) -> Path:
    """A folder whose store was filled so and closed, without exports."""
    with Store(folder) as store:
        fill(store)
    return folder


def make_run(folder: Path) -> Path:
    """A run of two cells, one of which failed, with its export beside the database."""
    cells = make_cell("none"), make_cell("pf-ode", steps=4)
    with Store(folder) as store:
        store.begin(cells, make_manifest(*cells))
        for cell, image, first in itertools.product(cells, (0, 83), (0, 10)):
            store.add([make_counts(cell, image, first=first, votes=(image % 7, 10 - image % 7))])
        store.add([make_counts(cells[0], 0, "select", votes=(4, 0))])
        store.fail(cells[1].key, "purifier 'pf-ode' returned values that are not finite")
    export(read_run(folder))
    return folder
