"""Measure networks on a device: distance from float32, speed, and the best size of a batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.engine.arithmetic import PRECISIONS, float32_arithmetic
from bench.engine.checks import out_of_memory
from bench.engine.compute import CLASSIFIER, ComputeConfig
from bench.engine.devices import synchronize
from bench.engine.loader import Loader, LoadError
from bench.records import Cell

# Multiples of 32: vector loops of a CPU then have no remainder, which would be rounded otherwise (see `FixedRows`).
_SIZES = {"cpu": (32, 64, 96, 256, 512), "cuda": (32, 64, 128, 256, 512, 1024, 2048, 4096)}
_KNEE_RATE = 0.9  # of the highest rate: the smallest batch that reaches it is the knee
_FLAT = 1.05  # two sizes in a row that gain less than this end the search for the knee
LONG_CALL = 2.0  # seconds of one call beyond which no larger batch is tried
_ROUNDS = 3
_COMPARED_IMAGES = 8  # in the distance from float32


@dataclass
class Trials:
    """Runs the networks of a sweep on noisy images, each by itself. Networks are named by role, or `classifier`.

    Eager networks see the rows of a trial, not the fixed number of a run, so that trials of slow networks are short.

    Parameters:
        cells: role -> a cell with that network.
        cell: with the classifier that is measured.
        sigmas: noise levels of the comparison with float32.
        images: `[M,C,H,W]` in [0,1].
    """

    loader: Loader
    cells: Mapping[str, Cell]
    cell: Cell
    sigmas: Sequence[float]
    images: np.ndarray
    _references: dict[tuple[str, float], Tensor] = field(default_factory=dict)

    def noisy(self, sigma: float, rows: int) -> Tensor:
        """`rows` images in [0,1] with the same noise at every call; on the device."""
        clean = torch.from_numpy(self.images)[torch.arange(rows) % len(self.images)]
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
        return (clean + sigma * noise).to(self.loader.device)

    def call(self, name: str, config: ComputeConfig, x: Tensor, sigma: float) -> Tensor:
        """One evaluation: purified images in [0,1] of a network, logits `[B,K]` of the classifier."""
        if config.compile == "no":
            config = replace(config, rows=1)  # resized below, so that one copy serves all numbers of rows
        if name == CLASSIFIER:
            fixed: Any = self.loader.classifier(config.apply(self.cell))
        else:
            denoiser = self.loader.denoiser(name, config.apply(self.cells[name]))
            fixed = denoiser.network
        if config.compile == "no":
            fixed.resize(len(x))
        with float32_arithmetic(config.precision, self.loader.device):
            if name == CLASSIFIER:
                return fixed(x)
            return ((denoiser(2 * x - 1, min(2 * sigma, denoiser.t_max)) + 1) / 2).clamp(0, 1)

    @torch.inference_mode()
    def first_call(self, name: str, config: ComputeConfig) -> float:
        """Seconds of loading a network, compiling it and running it once.

        Raises:
            LoadError: it cannot be loaded or compiled.
        """
        started = time.perf_counter()
        self.call(name, config, self.noisy(max(self.sigmas), config.rows), max(self.sigmas))
        synchronize(self.loader.device)
        return time.perf_counter() - started

    @torch.inference_mode()
    def distance(self, name: str, config: ComputeConfig) -> float:
        """The RMS distance of a network's output from float32, eager; the largest over the sigmas.

        Of purified images in [0,1]; of logits as a share of their standard deviation, on clean images.
        """
        distances = [0.0]
        for sigma in [0.0] if name == CLASSIFIER else self.sigmas:
            x = self.noisy(sigma, _COMPARED_IMAGES)
            if (name, sigma) not in self._references:
                plain = ComputeConfig(classifier=config.classifier and "fp32")
                self._references[name, sigma] = self.call(name, plain, x, sigma).float()
            exact = self._references[name, sigma]
            distance = (self.call(name, config, x, sigma).float() - exact).square().mean().sqrt()
            distances.append(float(distance / exact.std()) if name == CLASSIFIER else float(distance))
        return math.inf if any(math.isnan(d) for d in distances) else max(distances)

    @torch.inference_mode()
    def seconds(self, name: str, configs: Sequence[ComputeConfig], rows: int) -> list[float]:
        """Seconds of one call on `rows` rows in each configuration: the minimum over several rounds.

        The configurations take turns, so that a slower machine slows all of them.
        """
        return self._timed([lambda x, sigma, c=c: self.call(name, c, x, sigma) for c in configs], rows)  # type: ignore[misc]

    def _timed(self, calls: Sequence[Callable[[Tensor, float], object]], rows: int) -> list[float]:
        sigma = max(self.sigmas)
        x, best = self.noisy(sigma, rows), [math.inf] * len(calls)
        for round_ in range(1 + _ROUNDS):  # the first one loads and warms up
            for i, call in enumerate(calls):
                synchronize(self.loader.device)
                started = time.perf_counter()
                call(x, sigma)
                synchronize(self.loader.device)
                if round_:
                    best[i] = min(best[i], time.perf_counter() - started)
            if round_ and sum(best) > LONG_CALL:
                break
        return best

    def alike(self) -> list[list[str]]:
        """Roles by architecture: networks of one architecture take the same time."""
        roles: dict[tuple[Any, ...], list[str]] = {}
        for role in self.cells:
            network = self.loader.denoiser(role, ComputeConfig(rows=1).apply(self.cells[role])).network
            roles.setdefault(tuple((k, tuple(v.shape)) for k, v in network.state_dict().items()), []).append(role)
        return list(roles.values())

    @torch.inference_mode()
    def knee(self, configs: Mapping[str, ComputeConfig]) -> tuple[int, list[tuple[int, float]]]:
        """The smallest batch that reaches `_KNEE_RATE` of the highest rate, and the rates: (size, rows per second).

        Every batch passes the networks, named with their eager configurations, undivided.

        Raises:
            LoadError: the smallest batch does not fit into memory.
        """
        rates: list[tuple[int, float]] = []
        sizes = _SIZES[self.loader.device.type]
        calls = [lambda x, sigma: [self.call(name, config, x, sigma) for name, config in configs.items()]]
        for size in sizes:
            try:
                (seconds,) = self._timed(calls, size)
            except Exception as error:
                if not out_of_memory(error):
                    raise
                break
            rates.append((size, size / seconds))
            if seconds > LONG_CALL or _is_flat(rates):
                break
        if not rates:
            raise LoadError(
                f"a batch of {sizes[0]} does not fit into memory; give fewer --rows and --batch, or another device"
            )
        return knee_of(rates), rates


def _is_flat(rates: Sequence[tuple[int, float]]) -> bool:
    """Whether the rate fell by a fifth, or the last two sizes gained little over the best before them."""
    values = [rate for _, rate in rates]
    return values[-1] < 0.8 * max(values) or (len(values) > 2 and max(values[-2:]) < _FLAT * max(values[:-2]))


def knee_of(rates: Sequence[tuple[int, float]]) -> int:
    """The smallest size that reaches `_KNEE_RATE` of the highest rate."""
    highest = max(rate for _, rate in rates)
    return next(size for size, rate in rates if rate >= _KNEE_RATE * highest)


@torch.inference_mode()
def product_rate(precision: str, device: str, side: int) -> float:
    """Products of two square matrices in a second, the best of a few."""
    place, best = torch.device(device), math.inf
    with float32_arithmetic(precision, place):
        a, b = (torch.rand(side, side, device=place).to(PRECISIONS[precision]) for _ in range(2))
        for _ in range(1 + _ROUNDS):
            synchronize(place)
            started = time.perf_counter()
            a @ b
            synchronize(place)
            best = min(best, time.perf_counter() - started)
    return 1 / best
