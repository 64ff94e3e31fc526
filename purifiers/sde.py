"""Euler-Maruyama on the reverse variance-exploding SDE."""

from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Sampler


@dataclass(frozen=True)
class ReverseSDE(Sampler):
    """`du = 2 (u - D(u, t)) dt / t + sqrt(2 t) dw` from `t = 2 sigma` down to `t_end`, then one denoising step.

    This is the reverse SDE of Song et al. (2021, eq. 6) for `sigma(t) = t`, whose score is `(D(u,t) - u) / t^2`.

    Parameters:
        steps: evaluations, on the Karras grid.
        t_end: the level at which the SDE ends. Euler-Maruyama adds too much noise near 0, so with few steps an early
            end is better.
    """

    name = "sde"
    family = "sde"
    source = "Song et al. 2021, eq. 6, solved by Euler-Maruyama"
    networks = ("edm",)

    steps: int = 8
    t_end: float | None = 0.2

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        levels = denoise.levels(t, self.steps, self.t_end)
        for t, s in pairwise(levels):
            h = t - s
            drift = 2 * (u - denoise(u, t)) / t
            u = u - h * drift + (2 * t * h) ** 0.5 * rng.normal(u)
        return denoise(u, levels[-1])
