"""What the driver of a sweep can do on this machine: blocks a second through scheduler and store, bytes of each."""

from __future__ import annotations

import pickle
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path

from bench.certify.base import Request, Tally
from bench.certify.fixed import FixedN
from bench.doctor.cost import Measured
from bench.records import Block, Cell, Cost, Counts, Shown, Task
from bench.store.database import DATABASE
from bench.store.store import Store
from bench.sweep.scheduler import Observer, sweep

SETUP = 60.0  # seconds, assumed: a worker imports torch, loads its networks and warms up
OVERHEAD = 0.05  # of a device's time, assumed; `nox -s perf` measures it
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

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Future[Shown]:
        raise NotImplementedError("there are no networks here")

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


def measure(classes: int, n0: int, n: int, block: int, batch: int, blocks: int, folder: Path | None = None) -> Measured:
    """Drive a real sweep into a real store with networks that take no time, until about so many blocks are stored.

    Parameters:
        classes: of the classifier; counts have a number for each as they travel.
        n0, n, block, batch: as of a preset.
        folder: where the store is written and removed again; the disk counts. The temporary folder by default.
    """
    rule = FixedN(CELL.sigma, n0, n, 0.001, block=block)
    of_image = len(rule.missing(Tally({}, {})))
    labels = {image: image % classes for image in range(max(1, blocks // of_image))}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        with Store(Path(place)) as store:
            store.begin([CELL], {})
            started = time.perf_counter()
            sweep([CELL], lambda cell: rule, labels, store, Instant(classes), batch, Observer())
            seconds = time.perf_counter() - started
        size = (Path(place) / DATABASE).stat().st_size
    stored = of_image * len(labels)
    sent, asked = travelling(rule.missing(Tally({}, {})), classes, batch)
    return Measured(stored / seconds, size / stored, sent, asked, SETUP, OVERHEAD)


def travelling(requests: Sequence[Request], classes: int, batch: int) -> tuple[float, float]:
    """Bytes of a block's counts, and of a task of one batch, as they are pickled between machines."""
    blocks = [Block(CELL.key, image, r.stage, r.first, r.draws) for image in range(50) for r in requests]
    per_block = sum(block.draws for block in blocks) / len(blocks)
    travelled = tuple(blocks[: max(1, round(batch / per_block))])
    sent = pickle.dumps([counts_of(block, classes) for block in travelled], pickle.HIGHEST_PROTOCOL)
    asked = pickle.dumps(Task(CELL, travelled), pickle.HIGHEST_PROTOCOL)
    return len(sent) / len(travelled), float(len(asked))
