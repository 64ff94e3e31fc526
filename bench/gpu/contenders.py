"""The contenders of a race as functions, which worker processes import, too: a plain Cohen loop, the networks alone."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from bench.engine import Engine
from bench.engine.arithmetic import PRECISIONS, float32_arithmetic
from bench.engine.devices import synchronize
from bench.engine.noise import PURIFIER, RowRng
from bench.records import Cell

_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is the device's peak


@torch.inference_mode()
def cohen_loop(engine: Engine, cell: Cell, image: np.ndarray, draws: int) -> np.ndarray:
    """Votes of an image as published code counts them: fresh noise, a batch, argmax to the host; fp32, eager."""
    loaded, device = engine._prepare(cell), engine.device
    batch = torch.from_numpy(image).to(device).repeat(draws, 1, 1, 1)
    x = batch + torch.randn_like(batch) * cell.sigma
    rows = torch.arange(draws, device=device)
    purified = loaded.purifier.purify(x, cell.sigma, loaded.networks, RowRng(0, PURIFIER, rows, rows))
    counts = np.zeros(1000, dtype=int)
    for label in loaded.classifier(purified).argmax(1).cpu().numpy():
        counts[label] += 1
    return counts


def networks_alone(engine: Engine, cell: Cell, rows: int) -> None:
    """The ceiling: raw networks and classifier on ready-made input, as often as a purifier calls them."""
    with torch.inference_mode():
        loaded = engine._prepare(cell)
        x = torch.rand(rows, *engine._clean.shape[1:], device=engine.device)
        time_input = torch.full((rows,), 0.1, device=engine.device)
        calls = loaded.purifier.nfe() or 0
        for k in range(calls):
            denoiser: Any = list(loaded.networks.values())[k % len(loaded.networks)]._denoiser
            denoiser.network(x.to(denoiser.precision), time_input)
        loaded.classifier(x).argmax(1)
        synchronize(engine.device)


def matmul_rate(engine: Engine, precision: str) -> float:
    """Operations per second of products of square matrices, the best of some."""
    device, best = engine.device, 0.0
    with torch.inference_mode(), float32_arithmetic(precision, device):
        side = _SIDE[device.type]
        a, b = (torch.randn(side, side, device=device).to(PRECISIONS[precision]) for _ in range(2))
        for _ in range(4):
            started = time.perf_counter()
            a @ b
            synchronize(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best
