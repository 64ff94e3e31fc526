"""Flow matching: velocity networks as denoisers `D(u, t)`."""

from __future__ import annotations

from torch import Tensor, nn

from purifiers.nets.denoisers import LevelledDenoiser

# Velocity networks are trained on all times in (0, 1). These levels, times the shift, bound the finite levels of a
# scheduler of 1000 timesteps.
_T_MIN, _T_MAX = 1e-3, 1e3


class FlowDenoiser(LevelledDenoiser):
    """A network of the velocity `v = eps - u0` on the straight path `x = (1 - s) u0 + s eps` (Lipman et al. 2023).

    The path at time `s` is the noisy image scaled: `x = u / (1 + t)` for `s = t / (1 + t)`. So `D = x - s v` exactly,
    and no level is rounded. `ddim` on this denoiser takes the steps of diffusers' `FlowMatchEulerDiscreteScheduler`.

    Parameters:
        timesteps: factor in the network's time input, `timesteps * s`.
        shift: of the grid and the range of levels: a shift of time multiplies every level (Esser et al. 2024, eq. 23).
            The denoiser does not depend on it.
        inverted: the network's time runs from noise to image, `timesteps * (1 - s)`, and its output is `u0 - eps`.
    """

    def __init__(self, network: nn.Module, timesteps: float = 1000.0, shift: float = 1.0, inverted: bool = False):
        if not shift > 0:
            raise ValueError(f"shift must be positive, got {shift}")
        super().__init__(network, shift * _T_MIN, shift * _T_MAX)
        self.timesteps, self.shift, self.inverted = timesteps, shift, inverted

    def denoise(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        t = self.checked(t, u)
        x, s = u / (1 + t), t / (1 + t)
        time = 1 / (1 + t) if self.inverted else s
        output = self.inner(x, self.timesteps * time.flatten(), labels)
        return x + s * output if self.inverted else x - s * output

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        """`steps` levels, evenly spaced in time before its shift, from `t` down to `t_end`, or to above 0."""
        if t_end is not None and t <= t_end:
            return [t]
        start, end = (level / (self.shift + level) for level in (t, t_end or 0.0))
        size = start / steps if t_end is None else (start - end) / max(1, steps - 1)
        times = [start - i * size for i in range(1, steps)]
        return [t, *(self.shift * s / (1 - s) for s in times)]
