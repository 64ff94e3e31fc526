"""DDIM without added noise: Euler's method on the probability-flow ODE."""

from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Purifier, at_least, positive


@dataclass(frozen=True)
class DDIM(Purifier):
    """`u_s = u0 + (s/t) (u_t - u0)`, `u0 = D(u_t, t)`, from `t = 2 sigma` to `t_end`; the last `u0` is the result.

    This is eq. 12 of Song et al. (2021) with `eta = 0`, for images scaled to unit signal.

    Parameters:
        steps: evaluations, on the Karras grid.
        t_end: the level of the last evaluation, which is the result.
    """

    name = "ddim"
    family = "pf-ode"
    source = "Song et al. 2021 (DDIM), eq. 12"
    networks = ("edm",)

    steps: int = 5
    t_end: float = 0.1

    def __post_init__(self):
        at_least(1, steps=self.steps)
        positive(t_end=self.t_end)

    def nfe(self):
        return self.steps

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        levels = denoise.levels(t, self.steps, self.t_end)
        for t, s in pairwise(levels):
            u0 = denoise(u, t)
            u = u0 + s / t * (u - u0)
        return denoise(u, levels[-1])
