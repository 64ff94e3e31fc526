"""The probability-flow ODE, solved by Heun's method on the Karras grid."""

from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Purifier, at_least


@dataclass(frozen=True)
class HeunPFODE(Purifier):
    """`du/dt = (u - D(u, t)) / t` from `t = 2 sigma` to `t_min`, then one Euler step to 0.

    Parameters:
        steps: steps in all, the last one Euler's, so `nfe = 2 steps - 1`.
    """

    name = "pf-ode"
    family = "pf-ode"
    source = "Karras et al. 2022, Algorithm 1"
    networks = ("edm",)

    steps: int = 4

    def __post_init__(self):
        at_least(1, steps=self.steps)

    def nfe(self):
        return 2 * self.steps - 1

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        for t, s in pairwise([*denoise.levels(t, self.steps), 0.0]):
            d = (u - denoise(u, t)) / t
            u_next = u + (s - t) * d
            if s > 0:
                d_next = (u_next - denoise(u_next, s)) / s
                u_next = u + (s - t) * (d + d_next) / 2
            u = u_next
        return u
