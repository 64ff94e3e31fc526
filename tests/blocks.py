"""Runs of 2,400 blocks to damage and to repair."""

from __future__ import annotations

import shutil
from pathlib import Path

from stored import make_manifest

from bench.records import Block, Cell, Cost, Counts
from bench.store.run import read_run
from bench.store.store import Store

COST = Cost(20, 10, 0.25, 0.5, 0.125, 1 << 33, "CPU")
CELLS = [Cell(name, {}, "cnn", {}, "mnist5k", "data", 0.5, 0, "fp32", "cpu", {"noise": "n"}) for name in ("a", "b")]
IMAGES, BLOCKS = 40, 30


def counts(cell: Cell, image: int, first: int) -> Counts:
    hits = (image * 7 + first) % 11
    return Counts(Block(cell.key, image, "estimate", first, 10), (hits, 10 - hits) if hits < 11 else (10, 0), COST)


def fill(store: Store) -> None:
    labels = {str(image): image % 10 for image in range(IMAGES)}
    store.begin(CELLS, make_manifest(*CELLS, labels=labels))
    for cell in CELLS:
        for image in range(IMAGES):
            store.add([counts(cell, image, 10 * k) for k in range(BLOCKS)])


def rows(folder: Path) -> set[tuple]:
    blocks = read_run(folder).blocks
    return {(*map(str, row[:-1]),) for row in blocks.itertuples(index=False)}


def copy(whole: Path, folder: Path) -> Path:
    return Path(shutil.copytree(whole, folder))
