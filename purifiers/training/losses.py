"""The loss of each stage, in the papers' notation. All take `u0 [B,C,H,W]` in [-1,1] and a seeded generator."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from purifiers.nets.denoisers import SIGMA_DATA, LevelledDenoiser, VPDenoiser, karras_levels
from purifiers.training.loop import Loss

Network = Callable[[Tensor, Tensor], Tensor]
Logits = Callable[[Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]  # images in [-1,1], [B,C,H,W] twice -> [B]


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each image, `[B]`."""
    return (a - b).square().flatten(1).mean(1)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each image, `[B]`."""
    return (a - b).abs().flatten(1).mean(1)


def _noise_like(u: Tensor, generator: Generator) -> Tensor:
    return torch.randn(u.shape, generator=generator, device=u.device, dtype=u.dtype)


def _on_device(values: list[float]) -> Callable[[torch.device], Tensor]:
    """`values` on any device, `[len(values)]`. They are copied once: each copy from the host would wait for the GPU."""

    @cache
    def on_device(device: torch.device) -> Tensor:
        return torch.tensor(values, device=device)

    return on_device


def _edm_weight(t: Tensor) -> Tensor:
    """`lambda(t)`, the weight of a squared error at level `t` (Karras et al. 2022, Table 1)."""
    return (t**2 + SIGMA_DATA**2) / (t * SIGMA_DATA) ** 2


def edm_loss(p_mean: float, p_std: float, t_min: float, t_max: float) -> Loss:
    """`E lambda(t) ||D(u0 + t n, t) - u0||^2`, `ln t ~ N(p_mean, p_std)` (Karras et al. 2022, eq. 2 and Table 1)."""

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        log_t = p_mean + p_std * torch.randn(len(u0), generator=generator, device=u0.device)
        t = log_t.exp().clamp(t_min, t_max)
        u = u0 + t.view(-1, 1, 1, 1) * _noise_like(u0, generator)
        return (_edm_weight(t) * l2(model(u, t), u0)).mean()

    return loss


def ddpm_loss(denoiser: VPDenoiser) -> Loss:
    """`E ||eps - eps_theta(x_t, t)||^2` over the timesteps whose level is at most `t_max` (Ho et al. 2020, eq. 14)."""
    timesteps = int((denoiser.log_t.exp() <= denoiser.t_max).sum())

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        assert isinstance(model, VPDenoiser)
        index = torch.randint(timesteps, (len(u0),), generator=generator, device=u0.device)
        t = model.log_t[index].exp().to(u0.dtype).view(-1, 1, 1, 1)
        eps = _noise_like(u0, generator)
        return l2(model.eps(u0 + t * eps, t), eps).mean()

    return loss


def distillation_loss(teacher: LevelledDenoiser, scales: int, t_max: float, distance: Distance) -> Loss:
    """Consistency distillation (Song et al. 2023, Algorithm 2): `f(u, t)` matches the average's `f(u_hat, s)`.

    `u_hat` is one Heun step of the teacher's PF-ODE from `t` to the next lower level `s`. The distance is divided by
    `t - s`: without this weight the network drifts at small levels.
    """
    grid = _on_device(karras_levels(t_max, teacher.t_min, scales))

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        index = torch.randint(scales - 1, (len(u0),), generator=generator, device=u0.device)
        levels = grid(u0.device)
        t, s = levels[index], levels[index + 1]
        u = u0 + t.view(-1, 1, 1, 1) * _noise_like(u0, generator)
        with torch.no_grad():
            target = ema(heun_step(teacher, u, t, s), s)
        return (distance(model(u, t), target) / (t - s)).mean()

    return loss


def tuning_loss(p_mean: float, p_std: float, t_min: float, t_max: float, doublings: int) -> Loss:
    """Easy consistency tuning (Geng et al. 2024, section 4): `f(u0 + t z, t)` matches `f(u0 + r z, r)`, no teacher.

    `r = t (1 - 2^-stage n(t))`, `n(t) = 1 + 8 sigmoid(-t)`, stage 1 to `doublings` in equal parts of the training; the
    squared distance is divided by `t - r`, and the target is the network itself without gradient, at the same noise.
    """

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        log_t = p_mean + p_std * torch.randn(len(u0), generator=generator, device=u0.device)
        t = log_t.exp().clamp(2 * t_min, t_max)
        stage = 1 + min(int(progress * doublings), doublings - 1)
        r = (t * (1 - 2.0**-stage * (1 + 8 * torch.sigmoid(-t)))).clamp(min=t_min)
        z = _noise_like(u0, generator)
        with torch.no_grad():
            target = model(u0 + r.view(-1, 1, 1, 1) * z, r)
        return (l2(model(u0 + t.view(-1, 1, 1, 1) * z, t), target) / (t - r)).mean()

    return loss


def heun_step(denoise: Network, u: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """One Heun step of `du/dt = (u - D(u, t)) / t`, from levels `t [B]` to `s [B]`."""
    wide_t, wide_s = t.view(-1, 1, 1, 1), s.view(-1, 1, 1, 1)
    d = (u - denoise(u, t)) / wide_t
    u_next = u + (wide_s - wide_t) * d
    d_next = (u_next - denoise(u_next, s)) / wide_s
    return u + (wide_s - wide_t) * (d + d_next) / 2


def _one_of(levels: Tensor, count: int, generator: Generator) -> Tensor:
    """`count` levels, each drawn uniformly from the given ones, `[count]`."""
    return levels[torch.randint(len(levels), (count,), generator=generator, device=levels.device)]


def purified_at(denoiser: LevelledDenoiser, levels: list[float]) -> Callable[[Tensor, Generator], Tensor]:
    """One step of a denoiser on `x [B,C,H,W]` in [0,1] with noise: training images for a classifier behind it."""
    levels_on = _on_device(levels)

    @torch.no_grad()
    def purify(x: Tensor, generator: Generator) -> Tensor:
        t = _one_of(levels_on(x.device), len(x), generator)
        u = 2 * x - 1 + t.view(-1, 1, 1, 1) * _noise_like(x, generator)
        return ((denoiser(u, t) + 1) / 2).clamp(0, 1)

    return purify


def finetuning_loss(levels: list[float], distance: Distance) -> Loss:
    """`E d(f(u0 + t z, t), u0)`, `t` uniform on the levels of smoothing (Li et al. 2024, eq. 8)."""
    levels_on = _on_device(levels)

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        t = _one_of(levels_on(u0.device), len(u0), generator)
        u = u0 + t.view(-1, 1, 1, 1) * _noise_like(u0, generator)
        return distance(model(u, t), u0).mean()

    return loss


def calibration_loss(levels: list[float], classify: Logits, strength: float, diversity: float) -> Loss:
    """Diffusion calibration: `L_EDM + strength (L_Brier + diversity L_AC)`, after Jeong and Shin (2023, section 3.3).

    For two draws of noise `z1, z2` on one image, `p_i = softmax(F(D(u0 + t z_i, t)))` and `y` the class of the clean
    image: `L_Brier = |p_1 - y|^2` where `p_1` is right (denoise consistently where the image can be recovered), and
    `L_AC = -|p_1 - p_2|^2` where it is wrong (denoise diversely where it cannot), without gradient through `p_2`.
    The published code has no training of the denoiser; this is our reading of the paper. `y` is the classifier's own
    class of the clean image, so no labels are needed.

    Parameters:
        levels: of smoothing; `t` is uniform on them.
        classify: logits `[B,K]` of images `[B,C,H,W]` in [0,1].
    """
    levels_on = _on_device(levels)

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        t = _one_of(levels_on(u0.device), len(u0), generator)
        wide = t.view(-1, 1, 1, 1)
        first = model(u0 + wide * _noise_like(u0, generator), t)
        with torch.no_grad():
            second = model(u0 + wide * _noise_like(u0, generator), t)
            y = classify((u0 + 1) / 2).argmax(1)
            p2 = classify((second + 1) / 2).float().softmax(1)
        p1 = classify((first + 1) / 2).float().softmax(1)
        right = p1.argmax(1) == y
        brier = (p1 - F.one_hot(y, p1.shape[1])).square().sum(1)
        diverse = -(p1 - p2).square().sum(1)
        return (_edm_weight(t) * l2(first, u0) + strength * torch.where(right, brier, diversity * diverse)).mean()

    return loss
