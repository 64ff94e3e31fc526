"""Count network evaluations, time stages, read peak memory, share the cost of a batch among its blocks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.records import Block, Cost, Counts


class CountedNetwork:
    """A denoiser that counts the rows it is called with. It passes on what purifiers may ask for, and no more.

    Attributes:
        rows: evaluated since `begin`.
        total: the sum of all values given since `begin`, on the device: finite only where they all are. Purifiers clip
            what networks give, so an overflow would not be seen in their images.
    """

    def __init__(self, denoiser):
        self._denoiser = denoiser
        self.begin()
        self.t_min, self.t_max = denoiser.t_min, denoiser.t_max

    def begin(self) -> None:
        """Count from here."""
        self.rows, self.total = 0, torch.zeros(())

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        self.rows += len(u)
        given = self._denoiser(u, t)
        self.total = given.sum(dtype=torch.float32) + self.total.to(given.device)
        return given

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return self._denoiser.levels(t, steps, t_end)


class Stopwatch:
    """Seconds by stage, of the device and without waiting for it.

    On a GPU events are put into its queue where a stage begins and ends, and are read when all of the batch is done:
    nothing is synchronised for the sake of a measurement. On a CPU the clock is read.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stages: list[tuple[str, Any, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self._now()
        yield
        self._stages.append((name, started, self._now()))

    def seconds(self) -> dict[str, float]:
        """Seconds by stage; waits until the device has done them."""
        found: dict[str, float] = defaultdict(float)
        for name, started, ended in self._stages:
            if self.device.type == "cuda":
                ended.synchronize()
                found[name] += started.elapsed_time(ended) / 1000
            else:
                found[name] += ended - started
        return found

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def share_cost(
    blocks: tuple[Block, ...],
    votes: np.ndarray,
    rows: tuple[int, int],
    seconds: Mapping[str, float],
    peak: int,
    device: str,
) -> list[Counts]:
    """Give each block its part of a batch's cost, by draws; rows are whole and add up to the batch's.

    Parameters:
        rows: through the purifier's networks, and through the classifier's.
    """
    total = sum(b.draws for b in blocks)
    counts, done, given = [], 0, (0, 0)
    for block, row in zip(blocks, votes, strict=True):
        done += block.draws
        part = block.draws / total
        until = rows[0] * done // total, rows[1] * done // total
        cost = Cost(
            nfe=until[0] - given[0],
            classifier_rows=until[1] - given[1],
            noise_s=seconds["noise"] * part,
            purify_s=seconds["purify"] * part,
            classify_s=seconds["classify"] * part,
            peak_bytes=peak,
            device=device,
        )
        given = until
        counts.append(Counts(block, tuple(int(v) for v in row), cost))
    return counts
