"""The loss of each stage, in the papers' notation. All take `u0 [B,C,H,W]` in [-1,1] and a seeded generator."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from purifiers.nets.denoisers import SIGMA_DATA, LevelledDenoiser, VPDenoiser, karras_levels
from purifiers.training.loop import Loss

_Network = Callable[[Tensor, Tensor], Tensor]
Distance = Callable[[Tensor, Tensor], Tensor]  # images in [-1,1], [B,C,H,W] twice -> [B]


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared difference of each image, `[B]`."""
    return (a - b).square().flatten(1).mean(1)


def l1(a: Tensor, b: Tensor) -> Tensor:
    """Mean absolute difference of each image, `[B]`."""
    return (a - b).abs().flatten(1).mean(1)


def _noise_like(u: Tensor, generator: Generator) -> Tensor:
    return torch.randn(u.shape, generator=generator, device=u.device, dtype=u.dtype)


def edm_loss(p_mean: float, p_std: float, t_min: float, t_max: float) -> Loss:
    """`E lambda(t) ||D(u0 + t n, t) - u0||^2`, `ln t ~ N(p_mean, p_std)` (Karras et al. 2022, eq. 2 and Table 1)."""

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        log_t = p_mean + p_std * torch.randn(len(u0), generator=generator, device=u0.device)
        t = log_t.exp().clamp(t_min, t_max)
        weight = (t**2 + SIGMA_DATA**2) / (t * SIGMA_DATA) ** 2
        u = u0 + t.view(-1, 1, 1, 1) * _noise_like(u0, generator)
        return (weight * l2(model(u, t), u0)).mean()

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
    grid = torch.tensor(karras_levels(t_max, teacher.t_min, scales))

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        index = torch.randint(scales - 1, (len(u0),), generator=generator, device=u0.device)
        levels = grid.to(u0.device)
        t, s = levels[index], levels[index + 1]
        u = u0 + t.view(-1, 1, 1, 1) * _noise_like(u0, generator)
        with torch.no_grad():
            target = ema(_heun_step(teacher, u, t, s), s)
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


def _heun_step(denoise: _Network, u: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """One Heun step of `du/dt = (u - D(u, t)) / t`, from levels `t [B]` to `s [B]`."""
    wide_t, wide_s = t.view(-1, 1, 1, 1), s.view(-1, 1, 1, 1)
    d = (u - denoise(u, t)) / wide_t
    u_next = u + (wide_s - wide_t) * d
    d_next = (u_next - denoise(u_next, s)) / wide_s
    return u + (wide_s - wide_t) * (d + d_next) / 2


def finetuning_loss(levels: list[float], distance: Distance) -> Loss:
    """`E d(f(u0 + t z, t), u0)`, `t` uniform on the levels of smoothing (Li et al. 2024, eq. 8)."""
    choices = torch.tensor(levels)

    def loss(model: nn.Module, ema: nn.Module, u0: Tensor, generator: Generator, progress: float) -> Tensor:
        index = torch.randint(len(levels), (len(u0),), generator=generator, device=u0.device)
        t = choices.to(u0.device)[index]
        u = u0 + t.view(-1, 1, 1, 1) * _noise_like(u0, generator)
        return distance(model(u, t), u0).mean()

    return loss
