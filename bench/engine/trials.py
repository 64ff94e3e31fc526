"""Measure networks on a device: how far they stray from float32, how fast they are, at which size of a batch."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.engine.checks import out_of_memory
from bench.engine.compute import float32_arithmetic
from bench.engine.loader import Loader, LoadError
from bench.records import Cell

SIZES = {"cpu": (10, 25, 50, 100, 250, 500), "cuda": (10, 25, 50, 100, 250, 500, 1000, 2000, 4000)}
ENOUGH = 0.9  # of the highest rate: the smallest batch that reaches it is the knee
LONG = 2.0  # seconds of one call beyond which no larger batch is tried
ROUNDS = 3
LOOKED_AT = 8  # images whose purification is compared


@dataclass(frozen=True)
class How:
    """A way to compute: what of it is `Cell.precision`, `Cell.compute` and the classifier's parameter."""

    precision: str = "fp32"
    channels_last: bool = False
    compile: str = "no"
    rows: int = 0
    classifier: str | None = None  # its precision; None where it has no choice of it

    @property
    def compute(self) -> dict[str, Any]:
        laid_out = {"channels_last": True} if self.channels_last else {}
        return laid_out | ({} if self.compile == "no" else {"compile": self.compile, "rows": self.rows})

    def of(self, cell: Cell) -> Cell:
        """A cell that computes so."""
        given = dict(cell.classifier_parameters)
        if self.classifier is not None:
            given.pop("precision", None)
            given |= {} if self.classifier == "fp32" else {"precision": self.classifier}
        return replace(cell, precision=self.precision, compute=self.compute, classifier_parameters=given)


@dataclass
class Trials:
    """Runs the networks of a sweep on noisy images of it.

    Parameters:
        cells: role -> a cell whose purifier has it; at least one entry, `""` where there are no networks.
        sigmas: at which purified images are compared.
        images: `[M,C,H,W]` in [0,1].
    """

    loader: Loader
    cells: Mapping[str, Cell]
    sigmas: Sequence[float]
    images: np.ndarray
    _reference: dict[tuple[str, float], Tensor] = field(default_factory=dict)

    @property
    def roles(self) -> list[str]:
        return [role for role in self.cells if role]

    @property
    def cell(self) -> Cell:
        return next(iter(self.cells.values()))

    def noisy(self, sigma: float, rows: int) -> Tensor:
        """`rows` images in [0,1] with noise, the same every time; on the device."""
        clean = torch.from_numpy(self.images)[torch.arange(rows) % len(self.images)]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        return (clean + sigma * noise).to(self.loader.device)

    def denoise(self, role: str, how: How, x: Tensor, sigma: float) -> Tensor:
        """Purified images in [0,1] of one evaluation."""
        denoiser = self.loader.denoiser(role, how.of(self.cells[role]))
        with float32_arithmetic(how.precision, self.loader.device):
            return ((denoiser(2 * x - 1, min(2 * sigma, denoiser.t_max)) + 1) / 2).clamp(0, 1)

    def classify(self, how: How, x: Tensor) -> Tensor:
        return self.loader.classifier(how.of(self.cell))(x)

    @torch.inference_mode()
    def distance(self, how: How) -> float:
        """Root mean square, in [0,1], between images purified so and in fp32: the largest over networks and sigmas."""
        distances = [0.0]
        for role, sigma in itertools.product(self.roles, self.sigmas):
            x = self.noisy(sigma, LOOKED_AT)
            if (role, sigma) not in self._reference:
                self._reference[role, sigma] = self.denoise(role, How(), x, sigma)
            difference = self.denoise(role, how, x, sigma) - self._reference[role, sigma]
            distances.append(float(difference.square().mean().sqrt()))
        return math.inf if any(math.isnan(d) for d in distances) else max(distances)

    @torch.inference_mode()
    def logit_distance(self, how: How, exact: How) -> float:
        """Root mean square between logits so and in fp32, as a share of the standard deviation of those."""
        x = self.noisy(0.0, LOOKED_AT)
        logits, reference = self.classify(how, x).float(), self.classify(exact, x).float()
        distance = float((logits - reference).square().mean().sqrt() / reference.std())
        return math.inf if math.isnan(distance) else distance

    @torch.inference_mode()
    def seconds(self, hows: Sequence[How], rows: int, networks: bool = True, classifier: bool = False) -> list[float]:
        """Seconds of one call of every kind of network, of the classifier, or of both on `rows` rows, in each way.

        The least disturbed of some rounds counts.

        Networks of one architecture take as long, so one of them stands for all. The ways are tried in turn, so that a
        machine that slows down slows all of them.
        """
        sigma = max(self.sigmas)
        x, best = self.noisy(sigma, rows), [math.inf] * len(hows)
        roles = self.kinds() if networks else []
        for round_ in range(1 + ROUNDS):  # the first one loads, compiles and warms up
            for i, how in enumerate(hows):
                self.wait()
                started = time.perf_counter()
                for role in roles:
                    self.denoise(role, how, x, sigma)
                if classifier:
                    self.classify(how, x)
                self.wait()
                if round_:
                    best[i] = min(best[i], time.perf_counter() - started)
            if round_ and sum(best) > LONG:
                break
        return best

    def kinds(self) -> list[str]:
        """One role of every architecture."""
        kinds: dict[tuple[Any, ...], str] = {}
        for role in self.roles:
            network = self.loader.denoiser(role, How().of(self.cells[role])).network
            kinds.setdefault(tuple((k, tuple(v.shape)) for k, v in network.state_dict().items()), role)
        return list(kinds.values())

    def knee(self, how: How) -> tuple[int, list[tuple[int, float]]]:
        """The smallest batch of nearly the highest rate, and rows per second by size."""
        rates: list[tuple[int, float]] = []
        sizes = SIZES[self.loader.device.type]
        for size in sizes:
            try:
                (seconds,) = self.seconds([how], size, classifier=True)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                break
            rates.append((size, size / seconds))
            if seconds > LONG or rates[-1][1] < 0.8 * max(rate for _, rate in rates):
                break
        if not rates:
            raise LoadError(
                f"a batch of {sizes[0]} does not fit into memory; give --batch with fewer, or another device"
            )
        return knee_of(rates), rates

    def wait(self) -> None:
        if self.loader.device.type == "cuda":
            torch.cuda.synchronize(self.loader.device)


def knee_of(rates: Sequence[tuple[int, float]]) -> int:
    """The smallest size whose rate is nearly the highest."""
    highest = max(rate for _, rate in rates)
    return next(size for size, rate in rates if rate >= ENOUGH * highest)


def choose(ways: Sequence[How], seconds: Callable[[Sequence[How]], Sequence[float]], clear: float) -> How:
    """The fastest way, but the first one where no other is clearly faster: noise must not decide."""
    if len(ways) == 1:
        return ways[0]
    taken = list(seconds(ways))
    fastest = min(range(len(ways)), key=taken.__getitem__)
    return ways[fastest] if taken[0] > clear * taken[fastest] else ways[0]
