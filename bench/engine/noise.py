"""Noise that depends on (seed, image, draw) only, and not on purifier, batch size, sharding or device type.

A counter-based generator: the bits of a draw are SplitMix64 (Steele, Lea, Flood 2014) of a starting point that is
hashed from (seed, stage, image, draw). So every row can be generated alone, in any order, on the device itself.
Libraries offer streams per generator object, not per row of a batch, and differ between CPU and GPU.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # SplitMix64's increment, as int64
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
SMOOTHING = "smoothing"
PURIFIER = "purifier"
_TOP = 255  # of the levels of an 8-bit image: its pixels are whole numbers of 1/255
_TAIL = 8  # standard deviations: noisy pixels are clipped at least this far outside of [0,1]
_CLOSE = 1e-3  # of a level: pixels in float32 are this near to a level


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
        kernel: on a GPU, make the noise by one Triton kernel, whose values differ in the last bits; see `noise_kernel`.
    """

    def __init__(self, seed: int, stream: str, images: Tensor, draws: Tensor, kernel: bool = False):
        name = int.from_bytes(hashlib.sha256(f"{seed}/{stream}".encode()).digest()[:8], "little", signed=True)
        self._origins = _splitmix64_(_splitmix64_(images * _GOLDEN + name) + draws * _MIX_1)
        self._counter = 0  # pairs of numbers that each stream has generated
        self._kernel = kernel and images.device.type == "cuda"

    def add_normal_(self, x: Tensor, scale: float) -> Tensor:
        """Add `scale` times standard normal noise to `x [B,...]`, float32 and contiguous, in place; returns `x`."""
        if not self._kernel:
            return x.add_(self.normal(x), alpha=scale)
        from bench.engine.noise_kernel import add_normal_

        add_normal_(x, self._origins, self._counter, scale)
        self._counter += (x[0].numel() + 1) // 2
        return x

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal noise of the shape, dtype and device of `like [B,...]`."""
        if self._kernel:
            return self.add_normal_(torch.zeros(like.shape, device=like.device), 1.0).to(like.dtype)
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

    def levels(self, like: Tensor, thresholds: Tensor) -> Tensor:
        """Whole numbers with a given distribution, `[B,...]` int64 of the shape of `like`.

        Parameters:
            thresholds: `[L]` int64, ascending; the number k is returned with probability
                `(thresholds[k] - thresholds[k - 1]) / 2^64`, for k from 0 to L. Only integers are compared, so every
                device returns the same numbers.
        """
        size = like[0].numel()
        steps = torch.arange(self._counter + 1, self._counter + size + 1, device=self._origins.device) * _GOLDEN
        self._counter += size
        return torch.searchsorted(thresholds, _splitmix64_(self._origins[:, None] + steps), right=True).view_as(like)


def add_discrete_noise(x: Tensor, sigma: float, rng: RowRng) -> Tensor:
    """Images of 8 bits plus Gaussian noise, rounded to whole levels and clipped: `[B,C,H,W]`, an exact sample.

    The sampler of Voracek and Hein (ICLR 2023, Sound Randomized Smoothing in Floating-Point Arithmetics), on this
    module's generator. Rounding and clipping count as the first layer of the classifier, so Cohen's theorem holds for
    its smoothed version in real arithmetic. On an 8-bit image, `round(x + noise) = x + round(noise)`: the rounded noise
    has finitely many values, whose probabilities are integrals of the normal density. It is drawn by comparing 64
    random bits with these integrals (`discrete_thresholds`); nothing is rounded to floating point before.

    Parameters:
        x: pixels that are whole numbers of 1/255 in [0,1] (`is_quantised`).
        sigma: in [0,1] pixel units.
    """
    thresholds = torch.tensor([t - (1 << 63) for t in discrete_thresholds(sigma)], device=x.device)
    most = _farthest(sigma)
    noise = rng.levels(x, thresholds) - most
    levels = (x * _TOP).round().to(torch.int64) + noise
    return levels.clamp_(_TOP - most, most).to(x.dtype).div_(_TOP)


def is_quantised(x: Tensor) -> bool:
    """Whether all pixels are whole numbers of 1/255 in [0,1], but for the rounding of float32."""
    levels = x * _TOP
    far = (levels - levels.round()).abs().max() > _CLOSE
    return not bool(far | (x.min() < 0) | (x.max() > 1))


@lru_cache(maxsize=64)
def discrete_thresholds(sigma: float) -> tuple[int, ...]:
    """`floor(2^64 Phi((2 i + 1) / (510 sigma)))` for `i = -m, ..., m - 1`: the noise is at most level `i` below it.

    Signed 64-bit comparison needs 2^63 less. Exact: 200 bits decide every floor. Levels beyond `m` are clipped at any
    pixel, so they need no probabilities of their own.
    """
    import mpmath

    most = _farthest(sigma)
    with mpmath.workprec(200):
        step = 510 * mpmath.mpf(sigma)
        below = [int(mpmath.floor(mpmath.ldexp(mpmath.ncdf(-(2 * i + 1) / step), 64))) for i in range(most)]
    # By symmetry, 2^64 Phi(z) = 2^64 - 2^64 Phi(-z), whose floor is one less: no value is a whole number.
    return (*reversed(below), *((1 << 64) - 1 - value for value in below))


def mismatch(sigma: float, pixels: int, draws: int) -> float:
    """Bound on the probability that any of some draws differs from an exact sample of the rounded Gaussian.

    A sample can differ only if its 64 bits equal a threshold's: draws x pixels x thresholds / 2^64. Added to alpha, it
    makes the certificate exact, given ideal random bits.
    """
    return draws * pixels * len(discrete_thresholds(sigma)) / 2**64


def _farthest(sigma: float) -> int:
    """The largest level of the noise, after which the pixel is clipped, whatever its value in [0,1] was."""
    return _TOP * (math.ceil(_TAIL * sigma) + 1)
