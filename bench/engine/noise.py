"""Noise that depends on (seed, image, draw) only, and not on purifier, batch size, sharding or device type.

A counter-based generator: the bits of a draw are SplitMix64 (Steele, Lea, Flood 2014) of a starting point that is
hashed from (seed, stage, image, draw). So every row can be generated alone, in any order, on the device itself.
Libraries offer streams per generator object, not per row of a batch, and differ between CPU and GPU.
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # SplitMix64's increment, as int64
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
SMOOTHING = "smoothing"
PURIFIER = "purifier"


def _splitmix64_(z: Tensor) -> Tensor:
    """SplitMix64's output function on int64 in place: shifts are logical, products wrap."""
    for shift, factor in ((30, _MIX_1), (27, _MIX_2)):
        z ^= (z >> shift) & ((1 << (64 - shift)) - 1)
        z *= factor
    z ^= (z >> 31) & ((1 << 33) - 1)
    return z


class RowRng:
    """A stream of normal noise for each row of a batch; every call continues the streams.

    Parameters:
        stream: the use of the noise, SMOOTHING or PURIFIER, so that no two uses share a number.
        images, draws: of the rows, `[B]` int64.
    """

    def __init__(self, seed: int, stream: str, images: Tensor, draws: Tensor):
        name = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "little", signed=True)
        self._origins = _splitmix64_(_splitmix64_(images * _GOLDEN + name) + draws * _MIX_1)
        self._counter = 0  # pairs of numbers that each stream has generated

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal noise of the shape, dtype and device of `like [B,...]`."""
        size = like[0].numel()
        pairs = (size + 1) // 2
        steps = torch.arange(self._counter + 1, self._counter + pairs + 1, device=self._origins.device) * _GOLDEN
        bits = _splitmix64_(self._origins[:, None] + steps)
        self._counter += pairs
        # Box-Muller: 32 bits for the angle and 32 for the radius of a pair.
        angle = (bits & 0xFFFFFFFF).float().mul_(2 * math.pi / 2**32)
        bits >>= 32
        bits &= 0xFFFFFFFF
        radius = bits.float().add_(0.5).mul_(2.0**-32).log_().mul_(-2).clamp_(min=0).sqrt_()
        noise = torch.empty(len(bits), 2 * pairs, device=bits.device)
        torch.mul(radius, angle.cos(), out=noise[:, :pairs])
        torch.mul(radius, angle.sin_(), out=noise[:, pairs:])
        return noise[:, :size].view_as(like).to(like.dtype)
