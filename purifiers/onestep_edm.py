"""One evaluation of an EDM denoiser: the posterior mean."""

from dataclasses import dataclass

from purifiers.conditioning import Conditioned


@dataclass(frozen=True)
class OneStepEDM(Conditioned):
    """`D(u, 2 sigma) = E[u0 | u]`, the mean of the clean images given the noisy one."""

    name = "onestep-edm"
    family = "one-step"
    source = "Karras et al. 2022, eq. 7"
    networks = ("edm",)

    def restore(self, u, t, networks, rng):
        (denoiser,) = self.networks
        return networks[denoiser](u, self.level(t))
