"""Options that reproduce how published codes round the noise level for a network; off by default.

The networks here take a level `t` exactly. Published samplers have a grid of levels, or whole timesteps, and use a
nearby one. This module is arithmetic on levels and does not import torch.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from purifiers.base import OPTION, Purifier

_KARRAS18 = 18, 0.002, 80.0  # points, t_min, t_max: the sampling grid of OpenAI's and NVIDIA's CIFAR-10 models
_CHAIN = 4000  # timesteps of improved-diffusion's cosine chain


@lru_cache
def _karras_grid(points: int, t_min: float, t_max: float, rho: float = 7.0) -> tuple[float, ...]:
    """The levels of Karras et al. (2022), eq. 5, decreasing from `t_max` to `t_min`."""
    top, low = t_max ** (1 / rho), t_min ** (1 / rho)
    return tuple((top + i / (points - 1) * (low - top)) ** rho for i in range(points))


def grid_from(t: float) -> list[float]:
    """The grid of 18 points from the one nearest to `t` downwards: 0.5853 for 0.5, 1.0882 for 1, 1.9233 for 2."""
    grid = _karras_grid(*_KARRAS18)
    nearest = min(range(len(grid)), key=lambda i: abs(grid[i] - t))
    return list(grid[nearest:])


@lru_cache
def chain_levels() -> tuple[float, ...]:
    """`sqrt((1 - abar) / abar)` at every timestep of the cosine chain (Nichol and Dhariwal 2021, eq. 17)."""
    levels, log_abar = [], 0.0
    f = [math.cos((i / _CHAIN + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(_CHAIN + 1)]
    for now, after in pairwise(f):
        log_abar += math.log1p(-min(1 - after / now, 0.999))
        levels.append(math.sqrt(math.expm1(-log_abar)))
    return tuple(levels)


def nearest_timestep(t: float) -> int:
    """The timestep in Consistency Purification and DensePure: the cosine schedule inverted, then rounded."""
    start = math.pi / (2 * 1.008)
    return round(_CHAIN * (1 - 2 * 1.008 / math.pi * math.asin(math.sin(start) / math.sqrt(1 + t * t))))


def timestep_above(t: float) -> int:
    """The first timestep whose level is at least `t`, as in diffusion_denoised_smoothing and DiffSmooth.

    Raises:
        ValueError: `t` is above the highest level of the chain.
    """
    levels = chain_levels()
    if t > levels[-1]:
        raise ValueError(f"noise level t = {t:.4g} is above the chain's highest, {levels[-1]:.4g}; use a smaller sigma")
    return next(i for i, level in enumerate(levels) if level >= t)


@dataclass(frozen=True)
class Conditioned(Purifier):
    """A method that passes the noise level to its network.

    Parameters:
        conditioning: `exact`: the level itself; `karras18`: the nearest of 18 grid points, as in Consistency
            Purification (0.5853, 1.0882, 1.9233 for sigma = 0.25, 0.5, 1).
        clip: clip purified images to [0,1]; Consistency Purification does not.
    """

    conditioning: Literal["exact", "karras18"] = field(default="exact", kw_only=True, metadata=OPTION)
    clip: bool = field(default=True, kw_only=True, metadata=OPTION)

    @property
    def bounded(self) -> bool:
        return self.clip

    def level(self, t: float) -> float:
        """The network's input for noise of level `t`."""
        return t if self.conditioning == "exact" else grid_from(t)[0]
