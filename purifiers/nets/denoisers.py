"""Preconditioning: networks `F(v, time)` as denoisers `D(u, t)`, in the notation of the papers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SIGMA_DATA = 0.5  # Karras et al. 2022, Table 1
EPS = 0.002  # where the consistency function is the identity: Song et al. 2023, App. C
RHO = 7.0
TIME_SCALE = 250.0  # our UNets take 250 ln t, so that the sinusoidal embedding sees a range like DDPM's 0..1000


def karras_levels(t: float, t_min: float, steps: int) -> list[float]:
    """`steps` levels from `t` to `t_min`, decreasing; `[t]` for one step (Karras et al. 2022, eq. 5)."""
    if steps == 1 or t <= t_min:
        return [t]
    top, low = t ** (1 / RHO), t_min ** (1 / RHO)
    return [t, *((top + i / (steps - 1) * (low - top)) ** RHO for i in range(1, steps - 1)), t_min]


def level_like(t: float | Tensor, u: Tensor) -> Tensor:
    """A noise level, a float or `[B]`, as `[B]` of `u`'s device and dtype."""
    return torch.as_tensor(t, dtype=u.dtype, device=u.device).expand(len(u))


class LevelledDenoiser(nn.Module):
    """What all denoisers share: the network, the range of levels, and the refusal of levels outside it."""

    def __init__(self, network: nn.Module, t_min: float, t_max: float):
        super().__init__()
        self.network, self.t_min, self.t_max = network, t_min, t_max
        self.precision = torch.float32  # of the network; preconditioning is always done in float32

    def compute_in(self, precision: torch.dtype) -> LevelledDenoiser:
        """Run the network in another floating-point type, in place; what goes in and comes out stays as it is."""
        self.network.to(precision)
        self.precision = precision
        return self

    def inner(self, v: Tensor, time: Tensor) -> Tensor:
        """The network itself: `v [B,C,H,W]` and the time embedding's input `[B]` -> `[B,C,H,W]`."""
        return self.network(v.to(self.precision), time).to(v.dtype)

    def checked(self, t: float | Tensor, u: Tensor) -> Tensor:
        """`t` as `[B,1,1,1]`; raises ValueError above `t_max` (not looked at on a GPU, where it would wait)."""
        highest = t if isinstance(t, float | int) else float(t.max()) if t.device.type == "cpu" else 0.0
        if highest > self.t_max * (1 + 1e-4):
            raise ValueError(
                f"noise level t = {highest:.4g} (sigma = {highest / 2:.4g}) is above t_max = {self.t_max:.4g}, "
                "the highest that this network was trained for; use a smaller sigma or another network"
            )
        return level_like(t, u).view(-1, 1, 1, 1)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return karras_levels(t, max(self.t_min, t_end or 0.0), steps)


class EDMDenoiser(LevelledDenoiser):
    """`D(u, t) = c_skip u + c_out F(c_in u, time)`, the posterior mean (Karras et al. 2022, eq. 7)."""

    def forward(self, u: Tensor, t: float | Tensor) -> Tensor:
        t = self.checked(t, u)
        total = t**2 + SIGMA_DATA**2
        c_skip, c_out, c_in = SIGMA_DATA**2 / total, t * SIGMA_DATA / total.sqrt(), 1 / total.sqrt()
        return c_skip * u + c_out * self.inner(c_in * u, TIME_SCALE * t.flatten().log())


class ConsistencyFunction(LevelledDenoiser):
    """`f(u, t)` with `f(u, eps) = u` (Song et al. 2023, eq. 5 and App. C)."""

    def forward(self, u: Tensor, t: float | Tensor) -> Tensor:
        t = self.checked(t, u)
        total = t**2 + SIGMA_DATA**2
        c_skip = SIGMA_DATA**2 / ((t - EPS) ** 2 + SIGMA_DATA**2)
        c_out, c_in = SIGMA_DATA * (t - EPS) / total.sqrt(), 1 / total.sqrt()
        return c_skip * u + c_out * self.inner(c_in * u, TIME_SCALE * t.flatten().log())


def cosine_alphas_cumprod(timesteps: int) -> Tensor:
    """`abar_t` of the cosine schedule `[timesteps]`, float64, betas clipped at 0.999 (Nichol and Dhariwal, eq. 17)."""
    grid = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = torch.cos((grid + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod(1 - (1 - f[1:] / f[:-1]).clamp(max=0.999), dim=0)


class VPDenoiser(LevelledDenoiser):
    """An eps-network on the variance-preserving chain: `u0 = u - t eps(u / sqrt(1 + t^2), timestep)`, clipped.

    A level falls between two timesteps of a discrete schedule. The network's time embedding is continuous, so it is
    given the fractional timestep, interpolated in `ln t`: no level is rounded and no noise is added.
    """

    log_t: Tensor  # level of each timestep, [timesteps]

    def __init__(self, network: nn.Module, timesteps: int, t_max: float):
        abar = cosine_alphas_cumprod(timesteps)
        log_t = ((1 - abar) / abar).log() / 2
        super().__init__(network, t_min=float(log_t[0].exp()), t_max=t_max)
        self.register_buffer("log_t", log_t, persistent=False)

    def timestep(self, t: Tensor) -> Tensor:
        """The fractional timestep whose `(1 - abar)/abar = t^2`, for levels `t [B]`."""
        log_t = t.to(torch.float64).log()
        above = torch.searchsorted(self.log_t, log_t).clamp(1, len(self.log_t) - 1)
        low, high = self.log_t[above - 1], self.log_t[above]
        return (above - 1 + (log_t - low) / (high - low)).clamp(min=0)

    def eps(self, u: Tensor, t: Tensor) -> Tensor:
        """Predicted noise of `u [B,C,H,W]` at levels `t [B,1,1,1]`."""
        return self.inner(u / (1 + t**2).sqrt(), self.timestep(t.flatten()).to(u.dtype))

    def forward(self, u: Tensor, t: float | Tensor) -> Tensor:
        t = self.checked(t, u)
        return (u - t * self.eps(u, t)).clamp(-1, 1)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        """Even steps of the chain's timestep, from `t` down to above 0."""
        start = float(self.timestep(torch.tensor([t], dtype=torch.float64, device=self.log_t.device)))
        log_t = self.log_t.cpu()
        fractions = [start * (1 - i / steps) for i in range(1, steps)]
        at = [(min(int(k), len(log_t) - 2), k) for k in fractions]
        return [t, *(math.exp(log_t[k0] + (k - k0) * (log_t[k0 + 1] - log_t[k0])) for k0, k in at)]
