"""The bookkeeping of one cell: counted blocks, blocks in flight, blocks to request next."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.certify import Requesting, Tally
from bench.records import Block, Cell, Counts, Task
from bench.sweep.audit import CellAudit

_AHEAD = 64  # blocks that are tried to fill the rest of a batch
_PARTS = 10  # of the later half of the blocks that one process counted of a cell
_LEAK = 256 * 2**20  # bytes: a smaller growth, or one below a quarter of the first peak, is not reported
_FEWEST_BLOCKS = 4 * _PARTS


@dataclass
class CellProgress:
    """The state of one cell: counted blocks, blocks in flight, blocks that can be counted next. Pure bookkeeping.

    Votes are held only of images that are being worked on; those of all images would be millions.

    Attributes:
        labels: true class of every image that is certified.
        counted: image -> stored tally.
        tallies: of the images that are being worked on.
        awaited: image -> number of requested blocks that are not counted yet.
        audit: chooses among the counted blocks.
        peaks: engine -> its highest memory so far at each block, bytes. An engine lives as long as its process.
    """

    cell: Cell
    certifier: Requesting
    labels: Mapping[int, int]
    counted: Mapping[int, Tally]
    tallies: dict[int, Tally] = field(default_factory=dict)
    waiting: deque[int] = field(default_factory=deque)
    ready: deque[Block] = field(default_factory=deque)
    awaited: dict[int, int] = field(default_factory=dict)
    draws_ready: int = 0
    in_flight: int = 0
    decided: int = 0
    audit: CellAudit = field(init=False)
    peaks: dict[str, list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.audit = CellAudit(self.cell)
        self._stored = set(self.counted)  # one query, instead of one for each image without counts

    @classmethod
    def resume(
        cls, cell: Cell, certifier: Requesting, labels: Mapping[int, int], counted: Mapping[int, Tally]
    ) -> CellProgress:
        """Continue from stored counts; raises ValueError if the certifier cannot read them."""
        progress = cls(cell, certifier, labels, counted)
        for image, label in labels.items():
            if image in progress._stored and not certifier.missing(tally_of(image, label, counted)):
                progress.decided += 1
            else:
                progress.waiting.append(image)
        return progress

    def fill(self, draws: int) -> int:
        """Queue blocks until there are as many draws, if possible; returns the number of queued draws."""
        while self.draws_ready < draws and self.waiting:
            self.request(self.waiting.popleft())
        return self.draws_ready

    def request(self, image: int) -> bool:
        """Queue the blocks that the certifier needs of an image; returns True if the image is decided."""
        if image not in self.tallies:
            stored = self.counted if image in self._stored else {}
            self.tallies[image] = tally_of(image, self.labels[image], stored)
        requests = self.certifier.missing(self.tallies[image])
        for missing in requests:
            block = Block(self.cell.key, image, missing.stage, missing.first, missing.draws)
            self.ready.append(block)
            self.draws_ready += block.draws
        self.awaited[image] = len(requests)
        if not requests:
            del self.tallies[image], self.awaited[image]
        return not requests

    def take(self, draws: int) -> Task:
        """Blocks for one batch of up to `draws` draws (one block at least), the first that fit."""
        self.fill(draws)
        taken: list[Block] = []
        passed: list[Block] = []
        total = 0
        while self.ready and total < draws and len(passed) < _AHEAD:
            block = self.ready.popleft()
            if taken and total + block.draws > draws:
                passed.append(block)
            else:
                taken.append(block)
                total += block.draws
        self.ready.extendleft(reversed(passed))
        self.in_flight += len(taken)
        self.draws_ready -= total
        return Task(self.cell, tuple(taken))

    def add(self, counts: Sequence[Counts]) -> int:
        """Add counts; returns the number of images that they decided.

        The certifier decides anew once all requested blocks of an image are counted.
        """
        self.in_flight -= len(counts)
        self.audit.see(counts)
        for c in counts:
            self.peaks.setdefault(c.worker, []).append(c.cost.peak_bytes)
            getattr(self.tallies[c.block.image], c.block.stage)[c.block.first] = c.votes
            self.awaited[c.block.image] -= 1
        return sum(self.request(image) for image in {c.block.image for c in counts} if not self.awaited[image])

    def memory_growth(self) -> tuple[float, float] | None:
        """The largest of the engines' growths of memory; None if that of none kept growing."""
        rises = filter(None, map(memory_growth, self.peaks.values()))
        return max(rises, key=lambda rise: rise[1] - rise[0], default=None)

    @property
    def done(self) -> bool:
        return not self.ready and not self.in_flight and not self.waiting


def tally_of(image: int, label: int, counted: Mapping[int, Tally]) -> Tally:
    """The stored tally of an image, with its label; an empty one if nothing is stored."""
    return replace(counted.get(image) or Tally({}, {}), image=image, label=label)


def memory_growth(peaks: Iterable[float]) -> tuple[float, float] | None:
    """The first and the last peak of memory of a process, if memory kept growing over its later blocks; else None.

    Without a leak, a process reaches its peak within a few batches, so that whole parts of the later half of its blocks
    have one peak. With a leak, each batch has a higher one.

    Parameters:
        peaks: highest memory so far at each block of a cell that the process counted, bytes.
    """
    ascending = np.sort(np.asarray(list(peaks), float))  # batches come back in any order
    if len(ascending) < _FEWEST_BLOCKS:
        return None
    low, high = float(ascending[0]), float(ascending[-1])
    parts = np.array_split(ascending[len(ascending) // 2 :], _PARTS)
    rising = all(part[0] < part[-1] for part in parts)
    return (low, high) if rising and high - low >= max(_LEAK, low / 4) else None
