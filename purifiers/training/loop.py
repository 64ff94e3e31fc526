"""The one training loop: seeded batches, cosine schedule, gradient clipping, an exponential moving average."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Generator, Tensor, nn

Model = TypeVar("Model", bound=nn.Module)
Loss = Callable[[nn.Module, nn.Module, Tensor, Generator], Tensor]  # (model, ema, batch u0, generator) -> scalar
Report = Callable[[int, float], None]  # (steps done, loss averaged since the last report)

REPORT_EVERY = 50


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage trains: steps, batch size, peak learning rate, EMA decay, warm-up steps."""

    steps: int
    batch: int
    lr: float
    ema: float
    warmup: int = 0
    flip: bool = False
    optimizer: str = "Adam"


@dataclass(frozen=True)
class Trained(Generic[Model]):
    """The averaged network, what its training took, and the loss averaged over every tenth of it."""

    model: Model
    seconds: float
    losses: list[float]


def fit(
    model: Model,
    loss: Loss,
    images: Tensor,
    schedule: Schedule,
    seed: int,
    autocast: bool = False,
    report: Report | None = None,
) -> Trained[Model]:
    """Minimise `loss` over batches of `images [N,C,H,W]`, in [0,1]; batches reach the loss in [-1,1].

    `autocast` runs the forward pass in bfloat16. The same seed on the same machine gives the same weights.

    Raises:
        FloatingPointError: the loss is no longer finite.
    """
    device = images.device
    generator = Generator(device).manual_seed(seed)
    optimizer = getattr(torch.optim, schedule.optimizer)(model.parameters(), lr=schedule.lr)
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    history: list[float] = []
    recent, every = torch.zeros((), device=device), max(1, min(REPORT_EVERY, schedule.steps // 10))
    started = time.perf_counter()
    model.train()
    for step in range(schedule.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * learning_rate_factor(step, schedule)
        u0 = 2 * images[torch.randint(len(images), (schedule.batch,), generator=generator, device=device)] - 1
        if schedule.flip:
            mirrored = torch.rand(len(u0), 1, 1, 1, generator=generator, device=device) < 0.5
            u0 = torch.where(mirrored, u0.flip(-1), u0)
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            value = loss(model, ema, u0, generator)
        optimizer.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        update_average(ema, model, min(schedule.ema, (1 + step) / (10 + step)))
        recent += value.detach()
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            mean = float(recent) / (step % every + 1)
            if not math.isfinite(mean):
                raise FloatingPointError(f"the loss became {mean} by step {step + 1}; lower the learning rate")
            history.append(mean)
            recent.zero_()
            if report:
                report(step + 1, mean)
    return Trained(ema, time.perf_counter() - started, tenths(history))


def learning_rate_factor(step: int, schedule: Schedule) -> float:
    """Linear warm-up, then a cosine to 0."""
    warm = min(1.0, (step + 1) / max(1, schedule.warmup))
    return warm * (1 + math.cos(math.pi * step / schedule.steps)) / 2


@torch.no_grad()
def update_average(ema: nn.Module, model: nn.Module, decay: float) -> None:
    """`ema <- decay ema + (1 - decay) model`, in place."""
    for average, parameter in zip(ema.parameters(), model.parameters(), strict=True):
        average.lerp_(parameter, 1 - decay)


def tenths(history: list[float]) -> list[float]:
    """A loss history averaged over ten equal spans (fewer where it is shorter)."""
    size = max(1, math.ceil(len(history) / 10))
    return [round(sum(part) / len(part), 6) for part in (history[i : i + size] for i in range(0, len(history), size))]
