"""Measure networks on a device: distance from float32, speed, and the best size of a batch."""

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
from bench.engine.devices import synchronize
from bench.engine.loader import Loader, LoadError
from bench.engine.versions import DEFAULT_ROWS
from bench.records import Cell

_SIZES = {"cpu": (10, 25, 50, 100, 250, 500), "cuda": (10, 25, 50, 100, 250, 500, 1000, 2000, 4000)}
_KNEE_RATE = 0.9  # of the highest rate: the smallest batch that reaches it is the knee
LONG_CALL = 2.0  # seconds of one call beyond which no larger batch is tried
_ROUNDS = 3
_COMPARED_IMAGES = 8  # in the distance from float32


@dataclass(frozen=True)
class ComputeConfig:
    """How networks compute: `Cell.precision`, `Cell.compute` and the classifier's precision.

    Attributes:
        rows: in one call of a network.
        classifier: precision of the classifier; None where it has no such parameter.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compile: str = "no"
    rows: int = DEFAULT_ROWS["cpu"]
    classifier: str | None = None

    def apply(self, cell: Cell) -> Cell:
        """The same cell in this configuration."""
        layout = {"channels_last": True} if self.channels_last else {}
        compute = {"rows": self.rows} | layout | ({} if self.compile == "no" else {"compile": self.compile})
        parameters = dict(cell.classifier_parameters)
        if self.classifier is not None:
            parameters.pop("precision", None)
            parameters |= {} if self.classifier == "fp32" else {"precision": self.classifier}
        return replace(cell, precision=self.precision, compute=compute, classifier_parameters=parameters)


@dataclass
class Trials:
    """Runs the networks of a sweep on noisy images.

    Parameters:
        cells: role -> a cell with that network.
        cell: any cell, since all have the same classifier.
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

    def denoise(self, role: str, config: ComputeConfig, x: Tensor, sigma: float) -> Tensor:
        """Purified images in [0,1] of one evaluation."""
        denoiser = self.loader.denoiser(role, config.apply(self.cells[role]))
        with float32_arithmetic(config.precision, self.loader.device):
            return ((denoiser(2 * x - 1, min(2 * sigma, denoiser.t_max)) + 1) / 2).clamp(0, 1)

    def classify(self, config: ComputeConfig, x: Tensor) -> Tensor:
        """Logits `[B,K]` of images `[B,C,H,W]` in [0,1]."""
        return self.loader.classifier(config.apply(self.cell))[0](x)

    @torch.inference_mode()
    def distance(self, config: ComputeConfig) -> float:
        """The largest RMS distance, over networks and sigmas, of purified images in [0,1] to those in fp32."""
        distances = [0.0]
        for role, sigma in itertools.product(self.cells, self.sigmas):
            x = self.noisy(sigma, _COMPARED_IMAGES)
            if (role, sigma) not in self._references:
                self._references[role, sigma] = self.denoise(role, ComputeConfig(rows=config.rows), x, sigma)
            difference = self.denoise(role, config, x, sigma) - self._references[role, sigma]
            distances.append(float(difference.square().mean().sqrt()))
        return math.inf if any(math.isnan(d) for d in distances) else max(distances)

    @torch.inference_mode()
    def logit_distance(self, config: ComputeConfig, reference: ComputeConfig) -> float:
        """RMS distance of the logits to the reference's, as a share of the standard deviation of the latter."""
        x = self.noisy(0.0, _COMPARED_IMAGES)
        logits, exact = self.classify(config, x).float(), self.classify(reference, x).float()
        distance = float((logits - exact).square().mean().sqrt() / exact.std())
        return math.inf if math.isnan(distance) else distance

    @torch.inference_mode()
    def seconds(
        self, configs: Sequence[ComputeConfig], rows: int, networks: bool = True, classifier: bool = False
    ) -> list[float]:
        """Seconds of one call on `rows` rows in each configuration: the minimum over several rounds.

        A call runs one network of every architecture (`networks`), the classifier, or both. The configurations take
        turns, so that a slower machine slows all of them.
        """
        sigma = max(self.sigmas)
        x, best = self.noisy(sigma, rows), [math.inf] * len(configs)
        roles = self.architectures() if networks else []
        for round_ in range(1 + _ROUNDS):  # the first one loads, compiles and warms up
            for i, config in enumerate(configs):
                synchronize(self.loader.device)
                started = time.perf_counter()
                for role in roles:
                    self.denoise(role, config, x, sigma)
                if classifier:
                    self.classify(config, x)
                synchronize(self.loader.device)
                if round_:
                    best[i] = min(best[i], time.perf_counter() - started)
            if round_ and sum(best) > LONG_CALL:
                break
        return best

    def architectures(self) -> list[str]:
        """One role per architecture, since networks of one architecture take the same time."""
        roles: dict[tuple[Any, ...], str] = {}
        for role in self.cells:
            network = self.loader.denoiser(role, ComputeConfig().apply(self.cells[role])).network
            roles.setdefault(tuple((k, tuple(v.shape)) for k, v in network.state_dict().items()), role)
        return list(roles.values())

    def knee(self, config: ComputeConfig) -> tuple[int, list[tuple[int, float]]]:
        """The smallest batch that reaches `_KNEE_RATE` of the highest rate, and the rates: (size, rows per second).

        Every batch passes the networks undivided. `config` is not compiled.

        Raises:
            LoadError: the smallest batch does not fit into memory.
        """
        rates: list[tuple[int, float]] = []
        sizes = _SIZES[self.loader.device.type]
        padded = [self.loader.denoiser(role, config.apply(self.cells[role])).network for role in self.cells]
        padded.append(self.loader.classifier(config.apply(self.cell))[1])
        try:
            for size in sizes:
                for network in padded:
                    network.size = size
                try:
                    (seconds,) = self.seconds([config], size, classifier=True)
                except Exception as error:
                    if not out_of_memory(error):
                        raise
                    break
                rates.append((size, size / seconds))
                if seconds > LONG_CALL or rates[-1][1] < 0.8 * max(rate for _, rate in rates):
                    break
        finally:
            for network in padded:
                network.size = config.rows
        if not rates:
            raise LoadError(
                f"a batch of {sizes[0]} does not fit into memory; give fewer --rows and --batch, or another device"
            )
        return _knee_of(rates), rates


def _knee_of(rates: Sequence[tuple[int, float]]) -> int:
    """The smallest size that reaches `_KNEE_RATE` of the highest rate."""
    highest = max(rate for _, rate in rates)
    return next(size for size, rate in rates if rate >= _KNEE_RATE * highest)


def fastest(
    configs: Sequence[ComputeConfig], seconds: Callable[[Sequence[ComputeConfig]], Sequence[float]], margin: float
) -> ComputeConfig:
    """The fastest configuration if it is `margin` times as fast as the first, else the first, despite timing noise."""
    if len(configs) == 1:
        return configs[0]
    taken = list(seconds(configs))
    best = taken.index(min(taken))
    return configs[best] if taken[0] > margin * taken[best] else configs[0]
