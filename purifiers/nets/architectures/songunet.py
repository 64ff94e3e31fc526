"""NCSN++ and DDPM++ (Song et al. 2021), as EDM and OpenAI's JAX code train them, from diffusers' building blocks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn

from purifiers.nets.architectures.labels import LabelEmbedding

_EPS = 1e-6  # of every group normalisation
_BOX = (1, 1)  # the resampling filter of DDPM++: mean pooling and nearest neighbours


def _groups(channels: int) -> int:
    return min(32, channels // 4)


class FIR(nn.Module):
    """Resampling by 2 with a separable filter, zeros outside the image.

    diffusers' `upsample_2d` and `downsample_2d` compute the same numbers, channel by channel and at full resolution;
    one depthwise convolution is about 30 times faster on a CPU, and copies no filter to a GPU.

    Parameters:
        taps: the filter, of even length; it is normalised.
        mode: `down`, `up`, or `blur` (the filter alone, with full padding, before a strided convolution).
    """

    filter: Tensor  # [1,1,K,K]

    def __init__(self, taps: Sequence[int], mode: str):
        super().__init__()
        line = torch.tensor(taps, dtype=torch.float32)
        self.register_buffer("filter", torch.outer(line, line)[None, None] / line.sum() ** 2)
        overlap = (len(taps) - 1) // 2
        self.mode, self.gain = mode, 4.0 if mode == "up" else 1.0
        self.stride, self.padding = (1, overlap + 1) if mode == "blur" else (2, overlap)

    def forward(self, x: Tensor) -> Tensor:
        kernel = (self.filter * self.gain).to(x.dtype).expand(x.shape[1], 1, -1, -1)
        convolve = F.conv_transpose2d if self.mode == "up" else F.conv2d
        return convolve(x, kernel, stride=self.stride, padding=self.padding, groups=x.shape[1])


class Frequencies(nn.Module):
    """Base class of embeddings with fixed random frequencies, which stay in float32."""

    frequencies: Tensor

    def __init__(self, *shape: int):
        super().__init__()
        self.register_buffer("frequencies", torch.zeros(shape))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frequencies:
        """As `nn.Module._apply`, but without half precision: phases reach a hundred radians."""
        exact = self.frequencies
        super()._apply(fn, recurse)
        self.frequencies = exact.to(self.frequencies.device)
        return self


class _Fourier(Frequencies):
    """`[sin, cos]` of the time's projections on the frequencies."""

    def __init__(self, channels: int):
        super().__init__(channels // 2)

    def forward(self, time: Tensor) -> Tensor:
        phase = torch.outer(time.float(), 2 * math.pi * self.frequencies)
        return torch.cat([phase.sin(), phase.cos()], dim=1)


_EMBEDDINGS: dict[str, Callable[[int], nn.Module]] = {
    "fourier": _Fourier,
    # The shift of 1 makes the lowest frequency exactly 1/10,000, as in the code of Song et al.
    "positional": partial(Timesteps, flip_sin_to_cos=False, downscale_freq_shift=1),
}


class Block(nn.Module):
    """A residual block, with or without resampling and self-attention of one head; both scaled by `sqrt(1/2)`."""

    def __init__(
        self,
        channels: int,
        out: int,
        embedding: int,
        taps: Sequence[int],
        attention: bool = False,
        resample: str | None = None,
    ):
        super().__init__()
        self.resample = resample
        self.resnet = ResnetBlock2D(
            in_channels=channels,
            out_channels=out,
            temb_channels=embedding,
            groups=_groups(channels),
            groups_out=_groups(out),
            eps=_EPS,
            skip_time_act=True,
            output_scale_factor=math.sqrt(2),
            use_in_shortcut=channels != out or resample is not None,
            up=resample == "up",
            down=resample == "down",
            kernel="sde_vp",  # type: ignore[arg-type]  # its annotation says Tensor, its code compares with names
        )
        if resample is not None and tuple(taps) != _BOX:
            setattr(self.resnet, f"{resample}sample", FIR(taps, resample))
        self.attention: nn.Module | None = None
        if attention:
            self.attention = Attention(
                out,
                heads=1,
                dim_head=out,
                norm_num_groups=_groups(out),
                eps=_EPS,
                bias=True,
                upcast_softmax=True,
                residual_connection=True,
                rescale_output_factor=math.sqrt(2),
                _from_deprecated_attn_block=True,
            )

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.resnet(x, embedding)
        return x if self.attention is None else self.attention(x)


class SongUNet(nn.Module):
    """`(v, time, labels) -> Tensor`; parameters are a subset of those of EDM's class of the same name.

    Parameters:
        embedding_type: `positional` (DDPM++) or `fourier` (NCSN++).
        encoder_type: `standard` (DDPM++) or `residual` (NCSN++: the resampled image is added at every level).
        resample_filter: taps of the resampling filter, `[1,1]` (DDPM++) or `[1,3,3,1]` (NCSN++).

    Attributes:
        classes: number of classes; None for an unconditional network.
        images: channels and side of the images.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int = 3,
        out_channels: int = 3,
        label_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        embedding_type: str = "positional",
        channel_mult_noise: int = 1,
        encoder_type: str = "standard",
        resample_filter: Sequence[int] = _BOX,
    ):
        super().__init__()
        if embedding_type not in _EMBEDDINGS:
            raise ValueError(f"embedding_type {embedding_type!r} is not supported; known: {', '.join(_EMBEDDINGS)}")
        if encoder_type not in ("standard", "residual"):
            raise ValueError(f"encoder_type {encoder_type!r} is not supported; known: standard, residual")
        self.classes = label_dim or None
        self.images = in_channels, img_resolution
        noise, embedding = model_channels * channel_mult_noise, model_channels * channel_mult_emb
        self.embed = _EMBEDDINGS[embedding_type](noise)
        self.label = LabelEmbedding(label_dim, noise) if label_dim else None
        self.map0, self.map1 = nn.Linear(noise, embedding), nn.Linear(embedding, embedding)

        def block(channels: int, out: int, **options: bool | str) -> Block:
            return Block(channels, out, embedding, resample_filter, **options)  # type: ignore[arg-type]

        self.stem = nn.Conv2d(in_channels, model_channels, 3, padding=1)
        self.encoder, self.pyramid = nn.ModuleList(), nn.ModuleList()
        widths = [model_channels]  # of the skip connections to the decoder
        pyramid = in_channels
        for level, multiple in enumerate(channel_mult):
            attends = img_resolution >> level in attn_resolutions
            if level:
                self.encoder.append(block(widths[-1], widths[-1], resample="down"))
                if encoder_type == "residual":
                    shrink = nn.Conv2d(pyramid, widths[-1], 3, stride=2)
                    self.pyramid.append(nn.Sequential(FIR(resample_filter, "blur"), shrink))
                    pyramid = widths[-1]
                widths.append(widths[-1])
            for _ in range(num_blocks):
                self.encoder.append(block(widths[-1], model_channels * multiple, attention=attends))
                widths.append(model_channels * multiple)
        width = widths[-1]
        self.middle = nn.ModuleList([block(width, width, attention=True), block(width, width)])
        self.decoder = nn.ModuleList()
        for level, multiple in reversed(list(enumerate(channel_mult))):
            if level < len(channel_mult) - 1:
                self.decoder.append(block(width, width, resample="up"))
            for index in range(num_blocks + 1):
                attends = index == num_blocks and img_resolution >> level in attn_resolutions
                out = model_channels * multiple
                self.decoder.append(block(width + widths.pop(), out, attention=attends))
                width = out
        self.norm = nn.GroupNorm(_groups(width), width, _EPS)
        self.out = nn.Conv2d(width, out_channels, 3, padding=1)

    def forward(self, v: Tensor, time: Tensor, labels: Tensor | None = None) -> Tensor:
        """`v [B,C,H,W]`, the time embedding's input `[B]` and labels `[B]` -> `[B,C',H,W]`."""
        embedding = self.embed(time).to(v.dtype)
        if self.label is not None:
            embedding = embedding + self.label(labels)
        embedding = F.silu(self.map1(F.silu(self.map0(embedding))))
        x, image = self.stem(v), v
        joined = [x]
        shrink = iter(self.pyramid)
        for block in self.encoder:
            x = block(x, embedding)
            if block.resample and self.pyramid:
                x = image = (x + next(shrink)(image)) / math.sqrt(2)
            joined.append(x)
        for block in self.middle:
            x = block(x, embedding)
        for block in self.decoder:
            x = block(x if block.resample else torch.cat([x, joined.pop()], dim=1), embedding)
        return self.out(F.silu(self.norm(x)))
