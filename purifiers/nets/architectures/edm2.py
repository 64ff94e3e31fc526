"""The magnitude-preserving U-Net of EDM2, configuration G (Karras et al. 2024, Fig. 21), for inference.

Training normalises every weight and learns gains. Both are folded into plain weights when a checkpoint is read, so the
layers here are torch's own. Equation numbers are those of the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from purifiers.nets.architectures.labels import LabelEmbedding
from purifiers.nets.architectures.songunet import Frequencies

EPS = 1e-4  # of every normalisation, in the code of the paper
_SILU = 0.596  # root mean square of SiLU for standard normal input, eq. 81


def _silu(x: Tensor) -> Tensor:
    return F.silu(x) / _SILU


def _mix(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The sum of eq. 88: `b` with weight `t`, at the magnitude of uncorrelated inputs."""
    return torch.lerp(a, b, t) / math.hypot(1 - t, t)


def _join(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The concatenation of channels of eq. 103."""
    wide, narrow = a.shape[1], b.shape[1]
    scale = math.sqrt((wide + narrow) / ((1 - t) ** 2 + t**2))
    return torch.cat([a * (scale * (1 - t) / math.sqrt(wide)), b * (scale * t / math.sqrt(narrow))], dim=1)


def _pixel_norm(x: Tensor, dim: int) -> Tensor:
    """`x` at a root mean square of 1 along `dim`, eq. 30."""
    size = torch.linalg.vector_norm(x, dim=dim, keepdim=True, dtype=torch.float32)
    return x / (EPS + size / math.sqrt(x.shape[dim])).to(x.dtype)


def _conv(channels: int, out: int, size: int) -> nn.Conv2d:
    return nn.Conv2d(channels, out, size, padding=size // 2, bias=False)


class _Fourier(Frequencies):
    """`sqrt(2) cos(frequency time + phase)`, eq. 75; rows of `frequencies`: the frequencies, the phases."""

    def __init__(self, channels: int):
        super().__init__(2, channels)

    def forward(self, time: Tensor) -> Tensor:
        frequency, phase = self.frequencies
        return math.sqrt(2) * (time.float()[:, None] * frequency + phase).cos()


class Block(nn.Module):
    """A residual block of the encoder or the decoder, with or without resampling and self-attention.

    Parameters:
        decoder: the skip connection is a part of the residual branch, and its channels are adapted after that.
        resample: `down`, `up` or None.
        heads: of the attention; 0 for none.
    """

    def __init__(
        self,
        channels: int,
        out: int,
        embedding: int,
        decoder: bool,
        resample: str | None,
        heads: int,
        res_balance: float,
        attn_balance: float,
        clip_act: float | None,
    ):
        super().__init__()
        self.out, self.decoder, self.resample, self.heads = out, decoder, resample, heads
        self.res_balance, self.attn_balance, self.clip_act = res_balance, attn_balance, clip_act
        self.first = _conv(channels if decoder else out, out, 3)
        self.second = _conv(out, out, 3)
        self.modulation = nn.Linear(embedding, out, bias=False)
        self.skip = _conv(channels, out, 1) if channels != out else nn.Identity()
        if heads:
            self.qkv, self.projection = _conv(out, 3 * out, 1), _conv(out, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if self.resample == "down":
            x = F.avg_pool2d(x, 2)
        if self.resample == "up":
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        if not self.decoder:
            x = _pixel_norm(self.skip(x), dim=1)
        y = self.first(_silu(x)) * (self.modulation(embedding) + 1)[:, :, None, None]
        y = self.second(_silu(y))
        x = _mix(self.skip(x) if self.decoder else x, y, self.res_balance)
        if self.heads:
            x = _mix(x, self._attend(x), self.attn_balance)
        return x if self.clip_act is None else x.clamp(-self.clip_act, self.clip_act)

    def _attend(self, x: Tensor) -> Tensor:
        """Cosine attention: queries, keys and values have unit magnitude in every pixel and head."""
        fused = self.qkv(x).unflatten(1, (self.heads, -1, 3)).flatten(4)  # [B, head, channel, part, pixel]
        q, k, v = _pixel_norm(fused, dim=2).permute(3, 0, 1, 4, 2)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.projection(y.transpose(2, 3).reshape(x.shape))


class EDM2(nn.Module):
    """`(v, time, labels) -> Tensor`; parameters are a subset of those of EDM2's `Precond`, with its defaults.

    Attributes:
        classes: number of classes; None for an unconditional network.
        images: channels and side of the images.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int = 3,
        label_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        channels_per_head: int = 64,
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float | None = 256,
    ):
        super().__init__()
        self.classes, self.images = label_dim or None, (img_channels, img_resolution)
        self.label_balance, self.concat_balance = label_balance, concat_balance
        widths = [model_channels * multiple for multiple in channel_mult]
        noise = model_channels * channel_mult_noise if channel_mult_noise else widths[0]
        embedding = model_channels * channel_mult_emb if channel_mult_emb else max(widths)
        self.fourier, self.noise = _Fourier(noise), nn.Linear(noise, embedding, bias=False)
        self.label = LabelEmbedding(label_dim, embedding) if label_dim else None

        def block(channels: int, out: int, decoder: bool, attends: bool, resample: str | None = None) -> Block:
            heads = out // channels_per_head if attends else 0
            return Block(channels, out, embedding, decoder, resample, heads, res_balance, attn_balance, clip_act)

        self.stem = _conv(img_channels + 1, widths[0], 3)  # one more channel of ones, instead of biases
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        skips, last = [widths[0]], len(widths) - 1
        for level, width in enumerate(widths):
            if level:
                self.encoder.append(block(skips[-1], skips[-1], False, False, "down"))
                skips.append(skips[-1])
            for _ in range(num_blocks):
                self.encoder.append(block(skips[-1], width, False, img_resolution >> level in attn_resolutions))
                skips.append(width)
        current = skips[-1]
        self.joins: list[int] = []  # the decoder blocks that take a skip connection
        for level, width in reversed(list(enumerate(widths))):
            if level == last:
                self.decoder.extend([block(current, current, True, True), block(current, current, True, False)])
            else:
                self.decoder.append(block(current, current, True, False, "up"))
            for _ in range(num_blocks + 1):
                attends = img_resolution >> level in attn_resolutions
                self.joins.append(len(self.decoder))
                self.decoder.append(block(current + skips.pop(), width, True, attends))
                current = width
        self.output = _conv(current, img_channels, 3)

    def forward(self, v: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """`v [B,C,H,W]`, the time embedding's input `[B]` and labels `[B]` -> `[B,C,H,W]`."""
        embedding = self.noise(self.fourier(time).to(v.dtype))
        if self.label is not None:
            embedding = _mix(embedding, self.label(labels), self.label_balance)
        embedding = _silu(embedding)
        x = self.stem(torch.cat([v, torch.ones_like(v[:, :1])], dim=1))
        skips = [x]
        for block in self.encoder:
            x = block(x, embedding)
            skips.append(x)
        for i, block in enumerate(self.decoder):
            if i in self.joins:
                x = _join(x, skips.pop(), self.concat_balance)
            x = block(x, embedding)
        return self.output(x)
