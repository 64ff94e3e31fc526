"""Figures of a trained network on validation images: what it is, and what it is good for.

All take images `[N,C,H,W]` in [0,1] and give a figure for each level `t = 2 sigma` in units of [-1,1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from purifiers.nets.denoisers import LevelledDenoiser, karras_levels
from purifiers.training.losses import Network, heun_step, l2

LEVELS = (0.5, 1.0, 2.0)
ODE_STEPS = 24  # Heun steps to the end of the teacher's ODE
_ROWS = 250  # images in one call of a network


def _noisy(images: Tensor, seed: int, draws: int = 1) -> Iterator[tuple[float, list[tuple[Tensor, Tensor]]]]:
    """Each level with batches of `(u0, u)`: clean images in [-1,1] and the same with noise, `draws` of each."""
    generator = torch.Generator(images.device).manual_seed(seed)
    u0 = 2 * images - 1
    for t in LEVELS:
        batches: list[tuple[Tensor, Tensor]] = []
        for _ in range(draws):
            u = u0 + t * torch.randn(u0.shape, generator=generator, device=u0.device)
            batches += zip(u0.split(_ROWS), u.split(_ROWS), strict=True)
        yield t, batches


@torch.inference_mode()
def denoising_mse(denoiser: LevelledDenoiser, images: Tensor, draws: int = 1) -> dict[str, float]:
    """Mean squared error of one evaluation, in [-1,1] units."""
    errors = {}
    for t, batches in _noisy(images, 0, draws):
        squares = [l2(denoiser(u, t), u0) for u0, u in batches]
        errors[f"{t:g}"] = round(float(torch.cat(squares).mean()), 5)
    return errors


@torch.inference_mode()
def purified_accuracy(
    denoiser: LevelledDenoiser, classify: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor, draws: int = 1
) -> dict[str, float]:
    """Accuracy of the classifier after one evaluation of the network, a draw of noise for each image."""
    accuracy = {}
    for t, batches in _noisy(images, 1, draws):
        predicted = [classify(((denoiser(u, t) + 1) / 2).clamp(0, 1)).argmax(1) for _, u in batches]
        accuracy[f"{t:g}"] = round(float((torch.cat(predicted) == labels.repeat(draws)).float().mean()), 4)
    return accuracy


def follow_ode(denoise: Network, u: Tensor, t: float, t_end: float, steps: int = ODE_STEPS) -> Tensor:
    """Heun's solution of `du/dt = (u - D(u, t)) / t` on the Karras grid from `t` to `t_end`; `u [B,C,H,W]`."""
    for high, low in pairwise(karras_levels(t, t_end, steps + 1)):
        u = heun_step(denoise, u, torch.full((len(u),), high, device=u.device), torch.full_like(u[:, 0, 0, 0], low))
    return u


@torch.inference_mode()
def ode_ratio(f: LevelledDenoiser, teacher: LevelledDenoiser, images: Tensor) -> dict[str, float]:
    """`rms(f(u, t) - end) / rms(D(u, t) - end)`, where `end` is the end of the teacher's ODE from `(u, t)`.

    0 for the teacher's exact consistency function, 1 for the teacher's own one step. No loss shows this: a network that
    stays the denoiser has a low loss, too.
    """
    return _ratios(teacher, images, lambda u, t: (follow_ode(teacher, u, t, teacher.t_min), f(u, t), teacher(u, t)))


@torch.inference_mode()
def self_consistency(f: LevelledDenoiser, teacher: LevelledDenoiser, images: Tensor) -> dict[str, float]:
    """`rms(f(u, t) - f(v, t/2)) / rms(D(u, t) - D(v, t/2))`, where `v` follows `u` on the teacher's ODE to `t/2`."""

    def compared(u: Tensor, t: float) -> tuple[Tensor, Tensor, Tensor]:
        v = follow_ode(teacher, u, t, t / 2)
        ours, theirs = f(u, t) - f(v, t / 2), teacher(u, t) - teacher(v, t / 2)
        return torch.zeros_like(u), ours, theirs

    return _ratios(teacher, images, compared)


def _ratios(
    teacher: LevelledDenoiser, images: Tensor, compared: Callable[[Tensor, float], tuple[Tensor, Tensor, Tensor]]
) -> dict[str, float]:
    """`rms(b - a) / rms(c - a)` over all images of `(a, b, c) = compared(u, t)`, by level."""
    ratios = {}
    for t, batches in _noisy(images, 2):
        sums = torch.zeros(2, dtype=torch.float64)
        for _, u in batches:
            a, b, c = (part.double() for part in compared(u, t))
            sums += torch.stack([(b - a).square().sum(), (c - a).square().sum()]).cpu()
        ratios[f"{t:g}"] = round(float((sums[0] / sums[1]).sqrt()), 4)
    return ratios
