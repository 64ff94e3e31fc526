"""UniPC: a predictor and a corrector of order 2, at the cost of the predictor."""

import math
from dataclasses import dataclass
from itertools import pairwise

from purifiers.base import Sampler


@dataclass(frozen=True)
class UniPC(Sampler):
    """UniPC-2 of Zhao et al. (2023) on the denoiser, with `B(h) = e^h - 1` (their `B_2`), in `lambda = -ln t`.

    The evaluation at a predicted image serves the corrector of this step and the predictor of the next one.
    """

    name = "unipc"
    family = "pf-ode"
    source = "Zhao et al. 2023 (UniPC), Algorithms 1 and 2"
    networks = ("edm",)

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        levels = denoise.levels(t, self.steps, self.t_end)
        u0 = denoise(u, t)
        slope, h_before = None, 0.0  # of the denoised image in lambda, over the step before, and its size
        for t, s in pairwise(levels):
            h, phi = math.log(t / s), 1 - s / t
            plain = s / t * u + phi * u0  # order 1
            predicted = plain if slope is None else plain + phi / 2 * h * slope
            u0_next = denoise(predicted, s)
            change = u0_next - u0
            if slope is None:
                u = plain + phi / 2 * change
            else:  # weights of the two differences, exact for a denoised image that is quadratic in lambda
                b1 = (1 - phi / h) / phi
                b2 = (1 - 2 * (1 - phi / h) / h) / phi
                rho = (b1 - b2) / (1 + h_before / h)
                u = plain + phi * (rho * h * slope + (b1 - rho) * change)
            slope, h_before, u0 = change / h, h, u0_next
        return u0
