"""The stochastic sampler of EDM: Heun with churn."""

import math
from dataclasses import dataclass, field
from itertools import pairwise

from purifiers.base import OPTION, Purifier, at_least, positive


@dataclass(frozen=True)
class EDMStochastic(Purifier):
    """Karras et al. (2022), Algorithm 2: each step adds some noise, then takes a larger Heun step.

    The first step adds no noise: the image already has the noise of smoothing, and its level is known.

    Parameters:
        steps: Heun steps; the last one is an Euler step to 0, so `nfe = 2 steps - 1`.
        churn: `S_churn`, the total amount of added noise.
        noise_scale: `S_noise`, the standard deviation of the added noise.
        t_end: the level of the last evaluation; None: the lowest of the network. An end at 0.1 to 0.2 was best with 3
            steps on validation images of CIFAR-10.
    """

    name = "edm-stochastic"
    family = "sde"
    source = "Karras et al. 2022, Algorithm 2"
    networks = ("edm",)

    steps: int = 4
    churn: float = 2.0
    noise_scale: float = 1.003
    t_end: float | None = field(default=0.1, kw_only=True, metadata=OPTION)

    def __post_init__(self):
        at_least(1, steps=self.steps)
        positive(t_end=self.t_end)
        if self.churn < 0:
            raise ValueError(f"churn must not be negative, got {self.churn}")

    def nfe(self):
        return 2 * self.steps - 1

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        gamma = min(self.churn / self.steps, math.sqrt(2) - 1)
        for i, (t, s) in enumerate(pairwise([*denoise.levels(t, self.steps, self.t_end), 0.0])):
            t_hat = t if i == 0 else min(t * (1 + gamma), denoise.t_max)
            if t_hat > t:
                u = u + (t_hat**2 - t**2) ** 0.5 * self.noise_scale * rng.normal(u)
            d = (u - denoise(u, t_hat)) / t_hat
            u_next = u + (s - t_hat) * d
            if s > 0:
                d_next = (u_next - denoise(u_next, s)) / s
                u_next = u + (s - t_hat) * (d + d_next) / 2
            u = u_next
        return u
