"""One evaluation of a DDPM eps-network: the denoised smoothing of Carlini et al. (2023)."""

from dataclasses import dataclass, field
from typing import Literal

from purifiers.base import OPTION, Purifier
from purifiers.conditioning import chain_levels, nearest_timestep, timestep_above


@dataclass(frozen=True)
class OneStepDDPM(Purifier):
    """`u0 = (u_t - sqrt(1 - abar) eps(u_t, t)) / sqrt(abar)` at the timestep whose `(1 - abar)/abar = (2 sigma)^2`.

    Parameters:
        timestep: `exact`: the fractional timestep of level `2 sigma`. The others are whole timesteps of
            improved-diffusion's chain (4000, cosine), as in published codes: `nearest` (Consistency Purification: 1159,
            1984, 2810 for sigma = 0.25, 0.5, 1), scaled as if it were exact; `above` (DiffSmooth: 1158, 1984, 2809),
            the first of at least this level; `above-noised` (diffusion_denoised_smoothing), the same with the missing
            noise added.
    """

    name = "onestep-ddpm"
    family = "one-step"
    source = "Carlini et al. 2023, (Certified!!) Adversarial Robustness for Free!"
    networks = ("ddpm",)

    timestep: Literal["exact", "nearest", "above", "above-noised"] = field(
        default="exact", kw_only=True, metadata=OPTION
    )

    def restore(self, u, t, networks, rng):
        level = t
        if self.timestep == "nearest":
            level = chain_levels()[nearest_timestep(t)]
            u = u * ((1 + level**2) / (1 + t**2)) ** 0.5  # scaled by 1/sqrt(1 + t^2), not by sqrt(abar)
        elif self.timestep != "exact":
            level = chain_levels()[timestep_above(t)]
        if self.timestep == "above-noised":
            u = u + (level**2 - t**2) ** 0.5 * rng.normal(u)
        return networks["ddpm"](u, level)
