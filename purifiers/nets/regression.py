"""Denoisers that were trained by regression on images in [0,1], without a diffusion."""

from __future__ import annotations

from torch import Tensor, nn

from purifiers.nets.denoisers import LevelledDenoiser

_LOWEST = 0.002  # level at which EDM's denoisers end; training of these begins at 0


class RegressionDenoiser(LevelledDenoiser):
    """A network `(x, sigma) -> x0` of images in [0,1], as the denoiser of denoised smoothing (Salman et al. 2020).

    Parameters:
        highest: largest standard deviation of the noise in training, in the units of images in [0,1].
    """

    def __init__(self, network: nn.Module, highest: float):
        super().__init__(network, _LOWEST, 2 * highest)

    def denoise(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        t = self.checked(t, u)
        return 2 * self.inner((u + 1) / 2, t.flatten() / 2, labels) - 1
