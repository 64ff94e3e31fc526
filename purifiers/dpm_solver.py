"""DPM-Solver++, multistep, of order 2 or 3."""

import math
from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Sampler


@dataclass(frozen=True)
class DPMSolver(Sampler):
    """Exponential integration of the PF-ODE in `lambda = -ln t`, on the denoiser: DPM-Solver++(2M) and (3M).

    A step from `t` to `s` has the size `h = ln(t/s)`. The first steps have order 1 and 2, until there are enough
    earlier evaluations.

    Parameters:
        order: 2 or 3 (1 is `ddim`).
    """

    name = "dpm-solver"
    family = "pf-ode"
    source = "Lu et al. 2022 (DPM-Solver++), Algorithm 2 and App. B"
    networks = ("edm",)

    order: int = 2

    def __post_init__(self):
        super().__post_init__()
        if self.order not in (2, 3):
            raise ValueError(f"order must be 2 or 3, got {self.order}")

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        levels = denoise.levels(t, self.steps, self.t_end)
        past: list = []  # (size of the step that followed, denoised image), the latest first
        for t, s in pairwise(levels):
            h, u0 = math.log(t / s), denoise(u, t)
            phi = 1 - s / t
            u = s / t * u + phi * u0
            if past:
                h1, u1 = past[0]
                d1 = (u0 - u1) * (h / h1)  # first derivative, times h
                if self.order == 3 and len(past) > 1:
                    h2, u2 = past[1]
                    before = (u1 - u2) * (h / h2)
                    d2 = (d1 - before) * (h / (h1 + h2))
                    d1 = d1 + (d1 - before) * (h1 / (h1 + h2))
                    u = u + (1 - phi / h) * d1 - ((h - phi) / h**2 - 0.5) * d2
                else:
                    u = u + phi / 2 * d1
            past = [(h, u0), *past[:1]]
        return denoise(u, levels[-1])
