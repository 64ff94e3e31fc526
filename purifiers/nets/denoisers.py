"""Preconditioning: networks `F(v, time)` as denoisers `D(u, t)`, in the notation of the papers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

SIGMA_DATA = 0.5  # Karras et al. 2022, Table 1
_RHO = 7.0  # Karras et al. 2022, Table 1
_TIME_SCALE = 250.0  # our UNets take 250 ln t: a range like the timesteps 0..1000 of DDPM for the sinusoidal embedding
MEAN_LABEL = -1  # the mean of all class embeddings, see `labels.LabelEmbedding`


def karras_levels(t: float, t_min: float, steps: int) -> list[float]:
    """`steps` levels from `t` to `t_min`, decreasing; `[t]` for one step (Karras et al. 2022, eq. 5)."""
    if steps == 1 or t <= t_min:
        return [t]
    top, low = t ** (1 / _RHO), t_min ** (1 / _RHO)
    return [t, *((top + i / (steps - 1) * (low - top)) ** _RHO for i in range(1, steps - 1)), t_min]


def level_like(t: float | Tensor, u: Tensor) -> Tensor:
    """A noise level, a float or `[B]`, as `[B]` of `u`'s device and dtype; the host does not wait for the device."""
    return t.to(u).expand(len(u)) if isinstance(t, Tensor) else u.new_full((len(u),), t)


class LevelledDenoiser(nn.Module):
    """Base class of denoisers: a network, and the range of levels outside of which calls are refused.

    `network(v, time)` maps `[B,C,H,W]` and `[B]` to the raw output, `[B,C,H,W]` or more channels, of which the first C
    are the mean. A class-conditional network has the attribute `classes`, their number, and is called as
    `network(v, time, labels)`.

    Attributes:
        label: default class (or MEAN_LABEL) of calls without labels; None: such calls are refused.
    """

    def __init__(self, network: nn.Module, t_min: float, t_max: float):
        super().__init__()
        self.network, self.t_min, self.t_max = network, t_min, t_max
        self.precision = torch.float32  # of the network; preconditioning is always done in float32
        self.classes: int | None = getattr(network, "classes", None)
        self.label: int | None = None

    def compute_in(self, precision: torch.dtype) -> LevelledDenoiser:
        """Run the network in another floating-point type, in place; input and output keep their types."""
        self.network.to(precision)
        self.precision = precision
        return self

    def denoise(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        """`D(u, t)`, the network's estimate of the clean images.

        Parameters:
            u: `[B,C,H,W]`, images in [-1,1] plus noise of level `t`.
            t: a level, or one for each row, `[B]`.
            labels: a class, or one for each row, `[B]`; required by class-conditional networks without a default label.

        Raises:
            ValueError: a level is above `t_max`; labels are missing, out of range, or for an unconditional network.
        """
        raise NotImplementedError

    def forward(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        """The estimate for purifiers: the best one of this kind of network in one evaluation."""
        return self.denoise(u, t, labels)

    def inner(self, v: Tensor, time: Tensor, labels: int | Tensor | None = None) -> Tensor:
        """Evaluate the network: `v [B,C,H,W]` and the time embedding's input `[B]` -> `[B,C,H,W]`."""
        conditions = () if self.classes is None and labels is None else (self.checked_labels(labels, v),)
        return self.network(v.to(self.precision), time, *conditions)[:, : v.shape[1]].to(v.dtype)

    def checked(self, t: float | Tensor, u: Tensor) -> Tensor:
        """`t` as `[B,1,1,1]`; raises ValueError above `t_max` (unchecked on a GPU, to avoid synchronising)."""
        highest = t if isinstance(t, float | int) else float(t.max()) if t.device.type == "cpu" else 0.0
        if highest > self.t_max * (1 + 1e-4):
            raise ValueError(
                f"noise level t = {highest:.4g} (sigma = {highest / 2:.4g}) is above t_max = {self.t_max:.4g}, "
                "the highest level in the training of this network; use a smaller sigma or another network"
            )
        return level_like(t, u).view(-1, 1, 1, 1)

    def checked_labels(self, labels: int | Tensor | None, u: Tensor) -> Tensor:
        """Labels as int64 `[B]` on `u`'s device; raises ValueError as `denoise` (tensors on a GPU are not checked)."""
        if self.classes is None:
            raise ValueError("this network is unconditional and takes no labels")
        if labels is None:
            if self.label is None:
                raise ValueError(
                    f"this network is class-conditional ({self.classes} classes) and needs a label; pass labels, or "
                    "name the network with one for all images: NAME?label=mean, or NAME?label=207"
                )
            return torch.full((len(u),), self.label, device=u.device)
        classes = torch.as_tensor(labels)
        if classes.device.type == "cpu" and not bool(((classes >= 0) & (classes < self.classes)).all()):
            raise ValueError(f"labels must lie between 0 and {self.classes - 1}, got {classes.tolist()}")
        return classes.to(u.device, torch.int64).expand(len(u))

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return karras_levels(t, max(self.t_min, t_end or 0.0), steps)


class EDMDenoiser(LevelledDenoiser):
    """`D(u, t) = c_skip u + c_out F(c_in u, c_noise)`, the posterior mean (Karras et al. 2022, eq. 7).

    Parameters:
        sigma_data: standard deviation of the training images.
        time_scale: factor in the network's time input, `c_noise = time_scale ln t`; 1/4 for EDM's own networks.
        out_sign: -1 for networks that predict the negative of F (diffusers' `v_prediction`).
    """

    def __init__(
        self,
        network: nn.Module,
        t_min: float,
        t_max: float,
        sigma_data: float = SIGMA_DATA,
        time_scale: float = _TIME_SCALE,
        out_sign: int = 1,
    ):
        super().__init__(network, t_min, t_max)
        self.sigma_data, self.time_scale, self.out_sign = sigma_data, time_scale, out_sign

    def scaled(self, u: Tensor, t: Tensor, labels: int | Tensor | None) -> Tensor:
        """`F(c_in u, c_noise)`, for levels `t [B,1,1,1]`."""
        c_in = 1 / (t**2 + self.sigma_data**2).sqrt()
        return self.inner(c_in * u, self.time_scale * t.flatten().log(), labels)

    def denoise(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        t = self.checked(t, u)
        total = t**2 + self.sigma_data**2
        c_skip, c_out = self.sigma_data**2 / total, self.out_sign * t * self.sigma_data / total.sqrt()
        return c_skip * u + c_out * self.scaled(u, t, labels)


class ConsistencyFunction(EDMDenoiser):
    """`f(u, t)` with `f(u, eps) = u` for `eps = t_min` (Song et al. 2023, eq. 5 and App. C).

    Purifiers call `f`. `denoise` evaluates the same network with EDM's scalings, those of its teacher; that is a
    posterior mean only for weights that are still the teacher's. (The tensors of a checkpoint do not tell which of the
    two it is.)
    """

    def consistency(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        """`f(u, t)`; parameters and errors as `denoise`."""
        t = self.checked(t, u)
        c_skip = self.sigma_data**2 / ((t - self.t_min) ** 2 + self.sigma_data**2)
        c_out = self.sigma_data * (t - self.t_min) / (t**2 + self.sigma_data**2).sqrt()
        return c_skip * u + c_out * self.scaled(u, t, labels)

    def forward(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        return self.consistency(u, t, labels)


def _timestep(log_t: Tensor, t: Tensor) -> Tensor:
    """The fractional timestep of levels `t [B]` on the grid `log_t`, float64, by linear interpolation."""
    wanted = t.to(torch.float64).log()
    above = torch.searchsorted(log_t, wanted).clamp(1, len(log_t) - 1)
    low, high = log_t[above - 1], log_t[above]
    return (above - 1 + (wanted - low) / (high - low)).clamp(min=0)


def _cosine_alphas_cumprod(timesteps: int) -> Tensor:
    """`abar_t` of the cosine schedule `[timesteps]`, float64, betas clipped at 0.999 (Nichol and Dhariwal, eq. 17)."""
    grid = torch.arange(timesteps + 1, dtype=torch.float64) / timesteps
    f = torch.cos((grid + 0.008) / 1.008 * math.pi / 2) ** 2
    return torch.cumprod(1 - (1 - f[1:] / f[:-1]).clamp(max=0.999), dim=0)


_PREDICTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {  # (u, t, output) -> u0
    "epsilon": lambda u, t, eps: u - t * eps,
    "sample": lambda u, t, u0: u0,
    "v_prediction": lambda u, t, v: u / (1 + t**2) - t / (1 + t**2).sqrt() * v,
}


def _alphas_cumprod(timesteps: int, schedule: Mapping[str, Any] | None) -> Tensor:
    """`abar_t` of a chain, float64 `[timesteps]`: the cosine schedule, or that of diffusers' `DDPMScheduler`."""
    if schedule is None:
        return _cosine_alphas_cumprod(timesteps)
    from diffusers import DDPMScheduler

    make: Any = DDPMScheduler
    with torch.device("cpu"):  # not on the meta device, which may be the current one
        betas = make(num_train_timesteps=timesteps, **schedule).betas
    return torch.cumprod(1 - betas.to(torch.float64), dim=0)


class VPDenoiser(LevelledDenoiser):
    """A network on the variance-preserving chain, `u_t = sqrt(abar) u = u / sqrt(1 + t^2)`.

    A level lies between two timesteps of a discrete schedule. The network's time embedding is continuous, so its input
    is the fractional timestep, interpolated in `ln t`: no level is rounded and no noise is added.

    Parameters:
        timesteps: number of timesteps of the chain.
        t_max: the highest level; None: the last level of the chain.
        schedule: arguments of diffusers' `DDPMScheduler` for the betas; None: the cosine schedule.
        time_scale: factor in the network's time input, `time_scale * timestep`.
        prediction: `epsilon` (the noise), `sample` (the clean image) or `v_prediction`.
    """

    log_t: Tensor  # level of each timestep, [timesteps]

    def __init__(
        self,
        network: nn.Module,
        timesteps: int,
        t_max: float | None = None,
        schedule: Mapping[str, Any] | None = None,
        time_scale: float = 1.0,
        prediction: str = "epsilon",
    ):
        if prediction not in _PREDICTIONS:
            raise ValueError(f"prediction {prediction!r} is not one of {', '.join(_PREDICTIONS)}")
        abar = _alphas_cumprod(timesteps, schedule)
        log_t = ((1 - abar) / abar).log() / 2
        log_t = log_t[log_t.isfinite()]  # the level is infinite at a last timestep without signal
        super().__init__(network, float(log_t[0].exp()), float(log_t[-1].exp()) if t_max is None else t_max)
        self.register_buffer("log_t", log_t, persistent=False)
        self._grid = (log_t.clone(),)  # stays on the host, for `levels`; a tuple, so that it is no buffer
        self.time_scale, self.prediction = time_scale, prediction

    def timestep(self, t: Tensor) -> Tensor:
        """The fractional timestep whose `(1 - abar)/abar = t^2`, for levels `t [B]`."""
        return _timestep(self.log_t, t)

    def eps(self, u: Tensor, t: Tensor, labels: int | Tensor | None = None) -> Tensor:
        """The network's prediction (by default, of the noise) for `u [B,C,H,W]` at levels `t [B,1,1,1]`."""
        time = self.time_scale * self.timestep(t.flatten())
        return self.inner(u / (1 + t**2).sqrt(), time.to(u.dtype), labels)

    def denoise(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        t = self.checked(t, u)
        return _PREDICTIONS[self.prediction](u, t, self.eps(u, t, labels))

    def forward(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        """`denoise`, clipped to the images' range (Carlini et al. 2023)."""
        return self.denoise(u, t, labels).clamp(-1, 1)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        """`steps` levels, evenly spaced in the chain's timestep, from `t` down to `t_end`, or to above 0."""
        if t_end is not None and t <= t_end:
            return [t]
        (log_t,) = self._grid
        start, end = _timestep(log_t, torch.tensor([t, t_end or self.t_min], dtype=torch.float64)).tolist()
        size = start / steps if t_end is None else (start - end) / max(1, steps - 1)
        fractions = [start - i * size for i in range(1, steps)]
        at = [(min(int(k), len(log_t) - 2), k) for k in fractions]
        return [t, *(math.exp(log_t[k0] + (k - k0) * (log_t[k0 + 1] - log_t[k0])) for k0, k in at)]
