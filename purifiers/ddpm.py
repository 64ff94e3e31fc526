"""DDPM ancestral sampling from the noise level of smoothing."""

from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Purifier, at_least


@dataclass(frozen=True)
class AncestralDDPM(Purifier):
    """The reverse chain of Ho et al. (2020) from `t = 2 sigma` to 0.

    The posterior `q(x_s | x_t, x0)` is written for images scaled to unit signal, `u = x_t / sqrt(abar_t)`: its mean is
    then `u0 + (s/t)^2 (u - u0)`, its variance `s^2 (1 - (s/t)^2)`.

    Parameters:
        steps: evaluations; timesteps are evenly spaced on the network's chain.
    """

    name = "ddpm"
    family = "sde"
    source = "Ho et al. 2020, eq. 6-7; as a purifier: Nie et al. 2022, DiffPure"
    networks = ("ddpm",)

    steps: int = 5

    def __post_init__(self):
        at_least(1, steps=self.steps)

    def nfe(self):
        return self.steps

    def restore(self, u, t, networks, rng):
        denoise = networks["ddpm"]
        for t, s in pairwise([*denoise.levels(t, self.steps), 0.0]):
            u0 = denoise(u, t)
            u = u0 + (s / t) ** 2 * (u - u0)
            if s > 0:
                u = u + s * (1 - (s / t) ** 2) ** 0.5 * rng.normal(u)
        return u
