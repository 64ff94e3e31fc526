"""Denoised smoothing: a denoiser that was trained by regression, before a classifier that was not trained on noise."""

from dataclasses import dataclass

from purifiers.base import Purifier


@dataclass(frozen=True)
class DenoisedSmoothing(Purifier):
    """`D(u, 2 sigma)`, by any network in the role `denoiser`, such as FFDNet (docs/networks.md)."""

    name = "denoised-smoothing"
    family = "one-step"
    source = "Salman et al. 2020"
    networks = ("denoiser",)

    def restore(self, u, t, networks, rng):
        return networks["denoiser"](u, t)
