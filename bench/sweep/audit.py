"""The audit of a cell: a random share of its blocks is counted again in other batches, and the votes are compared.

The draws of the chosen blocks are shuffled and recounted one by one, so that every draw has other neighbours than
before, often on another worker. Networks see a fixed number of rows, so on one device model with one version of torch
no vote may differ.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.records import Block, Cell, Counts, Task

FEWEST_BLOCKS = 20  # of a cell that are counted again, or all if it has fewer
# Between two CPUs, 0.3 % of the votes differ in bf16 (`bench.verify.tolerance`).
_TOLERATED = 0.01
_REMEDY = (
    "The purifier or the classifier depends on more than an image and its noise, so nothing of this cell is certified. "
    "Mend the plugin (`bench.testing` finds the cause), or count in another folder if the device is at fault"
)
_TOTALS = ("of", "blocks", "draws", "elsewhere", "other_device", "differ", "seconds")


@dataclass
class _Chosen:
    """A block that is counted again, and its counts.

    Attributes:
        counted: the first count, with its device and worker.
        comparable: whether both counts are made with the same versions on the same device model.
        again: class of each draw that was counted again.
    """

    counted: Counts
    comparable: bool
    again: dict[int, int] = field(default_factory=dict)

    @property
    def block(self) -> Block:
        return self.counted.block


@dataclass
class CellAudit:
    """Chooses blocks of a cell as they are counted, and compares their recount. Pure bookkeeping.

    Parameters:
        share: of the blocks that are chosen; 0: nothing is audited.
        seed: chooses them.
        totals: of earlier sessions, as `record` returned them.

    Attributes:
        error: of the cell, once a vote differs that must not.
    """

    cell: Cell
    share: float = 0.0
    seed: int = 0
    totals: Mapping[str, Any] = field(default_factory=dict)
    _smallest: list[tuple[float, int, _Chosen]] = field(default_factory=list)
    _due: list[_Chosen] = field(default_factory=list)
    _draws: deque[tuple[_Chosen, int]] = field(default_factory=deque)
    _in_flight: dict[tuple[int, str, int], _Chosen] = field(default_factory=dict)
    _ended: bool = False
    error: str | None = None

    def __post_init__(self) -> None:
        self._sums: dict[str, Any] = {name: self.totals.get(name, 0) for name in _TOTALS}

    def see(self, counts: Iterable[Counts], comparable: bool = True) -> None:
        """Choose among counted blocks: a share of them, and always the `FEWEST_BLOCKS` with the smallest ranks."""
        for c in counts if self.share else ():
            self._sums["of"] += c.block.draws
            rank = self._rank(c.block)
            if rank < self.share:
                self._due.append(_Chosen(c, comparable))
            else:
                item = -rank, self._sums["of"], _Chosen(c, comparable)
                (heapq.heappushpop if len(self._smallest) == FEWEST_BLOCKS else heapq.heappush)(self._smallest, item)

    def _rank(self, block: Block) -> float:
        text = f"{self.seed}/audit/{block.cell}/{block.image}/{block.stage}/{block.first}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "little") / 2**56

    def take(self, batch: int, last: bool) -> Task | None:
        """A batch of draws to count again; None while there are too few for a full one and others follow.

        Parameters:
            last: the cell has no more draws, so the rest is counted again, too.
        """
        if last and not self._ended:
            self._ended = True
            missing = max(0, FEWEST_BLOCKS - self._sums["blocks"] - len(self._due))
            self._due += [chosen for *_, chosen in sorted(self._smallest, reverse=True)[:missing]]
        due = sum(chosen.block.draws for chosen in self._due)
        if due and (last or due >= batch):
            draws = [(chosen, draw) for chosen in self._due for draw in range(chosen.block.draws)]
            random.Random(f"{self.seed}/{self.cell.key}").shuffle(draws)
            self._sums["blocks"] += len(self._due)
            self._draws += draws
            self._due.clear()
        if not self._draws:
            return None
        blocks = []
        for chosen, draw in (self._draws.popleft() for _ in range(min(batch, len(self._draws)))):
            block = Block(self.cell.key, chosen.block.image, chosen.block.stage, chosen.block.first + draw, 1)
            self._in_flight[_name(block)] = chosen
            blocks.append(block)
        return Task(self.cell, tuple(blocks))

    @property
    def done(self) -> bool:
        """Whether nothing is left to count again, or nothing is audited."""
        return not self.share or (self._ended and not self._draws and not self._in_flight)

    def compare(self, counts: Sequence[Counts]) -> str | None:
        """Compare draws that were counted again; returns the error of the cell if a vote differs that must not."""
        problems = []
        for c in counts:
            chosen = self._in_flight.pop(_name(c.block))
            first = chosen.counted
            chosen.again[c.block.first] = max(range(len(c.votes)), key=c.votes.__getitem__)
            chosen.comparable &= c.cost.device == first.cost.device
            self._sums["draws"] += 1
            self._sums["elsewhere"] += c.worker != first.worker
            self._sums["seconds"] += c.cost.noise_s + c.cost.purify_s + c.cost.classify_s
            if len(chosen.again) == chosen.block.draws:
                problems.append(self._difference(chosen, len(c.votes)))
        foreign = self._sums["other_device"]
        if foreign and self.done and self._sums["differ"] > max(2, _TOLERATED * foreign):
            problems.append(
                f"{self._sums['differ']} of {foreign} draws vote otherwise on another device or version of torch, more "
                f"than the tolerated {_TOLERATED:.0%}"
            )
        problem = next(filter(None, problems), None)
        if problem:
            self.error = f"audit of {self.cell.label} at sigma = {self.cell.sigma:g}: {problem}. {_REMEDY}"
        return self.error

    def _difference(self, chosen: _Chosen, classes: int) -> str | None:
        """The first draw of a block whose vote differs, in words; None if the votes agree, or need not."""
        tally, block, before = Counter(chosen.again.values()), chosen.block, chosen.counted.votes
        votes = [tally[k] for k in range(classes)]
        differ = sum(max(0, now - then) for now, then in zip(votes, before, strict=True))
        self._sums["differ"] += differ
        if not chosen.comparable:
            self._sums["other_device"] += block.draws
            return None
        if not differ:
            return None
        draw = min(d for d, k in chosen.again.items() if votes[k] > before[k])
        return (
            f"{differ} of the {block.draws} votes of image {block.image} from draw {block.first} on (stage "
            f"{block.stage}) differ when they are counted again in another batch; draw {draw} now votes for class "
            f"{chosen.again[draw]}, which had {before[chosen.again[draw]]} votes and has {votes[chosen.again[draw]]}"
        )

    def record(self) -> dict[str, Any]:
        """The result for the manifest: share, `of` how many draws, `blocks` and `draws` that were counted again.

        `elsewhere` of them by another worker, `other_device` of them on another device model or version of torch;
        `differ` votes; device `seconds`; and the `error` that an audit ends with.
        """
        sums = {name: self._sums[name] for name in _TOTALS}
        sums["seconds"] = round(sums["seconds"], 3)
        return {"share": self.share, **sums, **({"error": self.error} if self.error else {})}


def _name(block: Block) -> tuple[int, str, int]:
    return block.image, block.stage, block.first
