"""DDPM ancestral sampling from the noise level of smoothing."""

from dataclasses import dataclass, field
from itertools import pairwise

from purifiers.base import OPTION, Sampler


@dataclass(frozen=True)
class AncestralDDPM(Sampler):
    """The reverse chain of Ho et al. (2020) from `t = 2 sigma` to 0.

    The posterior `q(x_s | x_t, x0)` is written for images scaled to unit signal, `u = x_t / sqrt(abar_t)`: its mean is
    then `u0 + (s/t)^2 (u - u0)`, its variance `s^2 (1 - (s/t)^2)`.

    Parameters:
        steps: evaluations; timesteps are evenly spaced on the network's chain.
        t_end: the level of the last evaluation, which is the result; None: the last timestep above 0, the best
            end with 5 steps on validation images of CIFAR-10.
    """

    name = "ddpm"
    family = "sde"
    source = "Ho et al. 2020, eq. 6-7; as a purifier: Nie et al. 2022, DiffPure"
    networks = ("ddpm",)

    t_end: float | None = field(default=None, kw_only=True, metadata=OPTION)

    def restore(self, u, t, networks, rng):
        denoise = networks[self.networks[0]]
        levels = denoise.levels(t, self.steps, self.t_end)
        for t, s in pairwise(levels):
            u0 = denoise(u, t)
            u = u0 + (s / t) ** 2 * (u - u0) + s * (1 - (s / t) ** 2) ** 0.5 * rng.normal(u)
        return denoise(u, levels[-1])
