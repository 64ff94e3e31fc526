"""Diffusion calibration: a denoiser that is sure only where the image can be recovered."""

from dataclasses import dataclass

from purifiers.onestep_edm import OneStepEDM


@dataclass(frozen=True)
class OneStepEDMCalibrated(OneStepEDM):
    """`D(u, 2 sigma)` of an EDM denoiser calibrated after Jeong and Shin (2023), see `calibration_loss`."""

    name = "onestep-edm-cal"
    family = "one-step"
    source = "after Jeong and Shin 2023, section 3.3"
    networks = ("edm-cal",)
