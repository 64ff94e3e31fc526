"""How many blocks a second the driver takes: scheduler, certifier and store of a run, with networks that take no time.

The rate that it must reach is that of ImageNet-64 on 64 GPUs (docs/cluster.md): their fastest purifier, all at once.
"""

from __future__ import annotations

import tempfile
import time
from concurrent.futures import Future
from pathlib import Path

import pytest

from bench.certify.base import Tally
from bench.certify.fixed import FixedN
from bench.records import Block, Cell, Cost, Counts, Task
from bench.store.database import DATABASE
from bench.store.store import Store
from bench.sweep.scheduler import Observer, sweep

FASTEST = 64 * 4000  # draws a second: 64 GPUs that only classify
COST = Cost(100, 100, 0.0012345, 0.123456, 0.0234567, 12_345_678_901, "NVIDIA A100-SXM4-80GB")
HASHES = dict.fromkeys(("noise", "engine", "purifier nets", "classifier nets", "purifier", "network edm"), "0" * 16)
CELL = Cell(
    purifier="pf-ode",
    parameters={"steps": 8},
    classifier="hf",
    classifier_parameters={"path": "google/vit-base-patch16-224"},
    dataset="imagenet64",
    data_hash="0" * 16,
    sigma=0.5,
    seed=0,
    precision="bf16",
    device_type="cuda",
    hashes=HASHES,
)


class Instant:
    """An executor whose batches take no time: votes are made up."""

    workers, slots = 64, 128

    def __init__(self, classes: int):
        self.classes = classes

    def submit(self, task: Task) -> Future[list[Counts]]:
        future: Future[list[Counts]] = Future()
        future.set_result([counts_of(block, self.classes) for block in task.blocks])
        return future

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        pass


def counts_of(block: Block, classes: int) -> Counts:
    """A block of made-up votes: half for one class, half of the others for the next, and so on, all over the list.

    So 100 draws reach 7 classes and 1,000 draws 10: a block takes room in the database for each class that it reaches.
    """
    votes, left, k = [0] * classes, block.draws, 31 * block.image
    while left:
        votes[k % classes] += (share := -(-left // 2))
        left, k = left - share, k + 271
    return Counts(block, tuple(votes), COST)


def measure(classes: int, n0: int, n: int, block: int, batch: int, blocks: int, folder: Path) -> tuple[float, float]:
    """Blocks per second through scheduler and store, and bytes per stored block, over about so many blocks."""
    rule = FixedN(CELL.sigma, n0, n, 0.001, block=block)
    per_image = len(rule.missing(Tally({}, {})))
    labels = {image: image % classes for image in range(max(1, blocks // per_image))}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        with Store(Path(place)) as store:
            store.begin([CELL], {})
            started = time.perf_counter()
            sweep([CELL], lambda cell: rule, labels, store, Instant(classes), batch, Observer())
            seconds = time.perf_counter() - started
        size = (Path(place) / DATABASE).stat().st_size
    stored = per_image * len(labels)
    return stored / seconds, size / stored


@pytest.mark.parametrize(("classes", "block"), [(10, 100), (1000, 100), (1000, 1000)])
def test_blocks_per_second(benchmark, tmp_path, classes, block):
    added, stored = benchmark.pedantic(measure, (classes, 100, 10_000, block, 2000, 10_000, tmp_path), rounds=3)
    needed = FASTEST / block
    benchmark.extra_info.update(blocks_per_s=added, needed=needed, bytes_of_a_block=stored)
    print(
        f"\n{classes:5} classes, blocks of {block:4}: {added:7,.0f} blocks/s through scheduler and store, "
        f"{needed:5,.0f} needed ({added / needed:.1f} times); {stored:5,.0f} bytes a block"
    )
    assert added > needed


def test_a_store_that_has_grown_takes_blocks_as_fast(benchmark, tmp_path):
    small, large = (measure(10, 100, 10_000, 100, 2000, blocks, tmp_path)[0] for blocks in (20_000, 200_000))
    benchmark.extra_info.update(small=small, large=large)
    benchmark.pedantic(measure, (10, 100, 10_000, 100, 2000, 1000, tmp_path), rounds=1)
    print(f"\nblocks/s over the first 20,000: {small:,.0f}; over the first 200,000: {large:,.0f}")
    assert large > 0.5 * small
