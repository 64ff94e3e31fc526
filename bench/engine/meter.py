"""Count network evaluations, time stages, read peak memory, share the cost of a batch among its blocks."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.records import Block, Cost, Counts

_STAGES = ("noise_s", "purify_s", "classify_s")  # fields of a cost


class CountedNetwork:
    """A denoiser that counts its rows. Purifiers see this object only, with the few attributes that they may use.

    Attributes:
        rows: evaluated since `begin`.
        total: sum of all outputs since `begin`, on the device (None: of none); finite only if they all are. Purifiers
            clip outputs of networks, so an overflow would not show in the purified images.
    """

    def __init__(self, denoiser):
        self._denoiser = denoiser
        self.begin()
        self.t_min, self.t_max = denoiser.t_min, denoiser.t_max

    def begin(self) -> None:
        """Reset the counters."""
        self.rows = 0
        self.total: Tensor | None = None

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        self.rows += len(u)
        output = self._denoiser(u, t)
        sum_ = output.sum(dtype=torch.float32)
        self.total = sum_ if self.total is None else self.total + sum_
        return output

    def evaluations(self) -> int:
        """Rows through the network itself since it was loaded, also of calls that this object did not see."""
        return getattr(getattr(self._denoiser, "network", None), "evaluated", 0)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return self._denoiser.levels(t, steps, t_end)


class Stopwatch:
    """Seconds of device time by stage, measured without synchronising.

    On a GPU, CUDA events mark the beginning and the end of a stage and are read after the batch.
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
        """Seconds by stage; waits for the device."""
        totals: dict[str, float] = defaultdict(float)
        for name, started, ended in self._stages:
            if self.device.type == "cuda":
                ended.synchronize()
                totals[name] += started.elapsed_time(ended) / 1000
            else:
                totals[name] += ended - started
        return totals

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def share_cost(blocks: Sequence[Block], votes: np.ndarray, batch: Cost) -> list[Counts]:
    """Share the cost of a batch among its blocks by draws; rows are integers that add up to those of the batch."""
    ends = np.cumsum([block.draws for block in blocks])
    total = int(ends[-1])
    rows = [np.diff(count * ends // total, prepend=0).tolist() for count in (batch.nfe, batch.classifier_rows)]
    counts = []
    for block, classes, nfe, classifier_rows in zip(blocks, votes.tolist(), *rows, strict=True):
        seconds = {name: getattr(batch, name) * (block.draws / total) for name in _STAGES}
        cost = replace(batch, nfe=nfe, classifier_rows=classifier_rows, **seconds)
        counts.append(Counts(block, tuple(classes), cost))
    return counts
