"""DDIM without added noise: Euler's method on the probability-flow ODE."""

from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Sampler


@dataclass(frozen=True)
class DDIM(Sampler):
    """`u_s = u0 + (s/t) (u_t - u0)`, `u0 = D(u_t, t)`, from `t = 2 sigma` to `t_end`; the last `u0` is the result.

    This is eq. 12 of Song et al. (2021) with `eta = 0`, for images scaled to unit signal.
    """

    name = "ddim"
    family = "pf-ode"
    source = "Song et al. 2021 (DDIM), eq. 12"
    networks = ("edm",)

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        levels = denoise.levels(t, self.steps, self.t_end)
        for t, s in pairwise(levels):
            u0 = denoise(u, t)
            u = u0 + s / t * (u - u0)
        return denoise(u, levels[-1])
