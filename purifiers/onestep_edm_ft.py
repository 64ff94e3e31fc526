"""A control for Consistency Purification: its fine-tuning applied to the plain denoiser, without distillation."""

from dataclasses import dataclass

from purifiers.onestep_edm import OneStepEDM


@dataclass(frozen=True)
class OneStepEDMFineTuned(OneStepEDM):
    """`D(u, 2 sigma)` of an EDM denoiser fine-tuned with the perceptual loss of Li et al. (2024)."""

    name = "onestep-edm-ft"
    family = "one-step"
    source = "control of Li et al. 2024"
    networks = ("edm-ft",)
