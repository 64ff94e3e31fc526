"""One evaluation of a DDPM eps-network: the denoised smoothing of Carlini et al. (2023)."""

from dataclasses import dataclass

from purifiers.base import Purifier


@dataclass(frozen=True)
class OneStepDDPM(Purifier):
    """`u0 = (u_t - sqrt(1 - abar) eps(u_t, t)) / sqrt(abar)` at the timestep whose `(1 - abar)/abar = (2 sigma)^2`."""

    name = "onestep-ddpm"
    family = "one-step"
    source = "Carlini et al. 2023, (Certified!!) Adversarial Robustness for Free!"
    networks = ("ddpm",)

    def restore(self, u, t, networks, rng):
        return networks["ddpm"](u, t)
