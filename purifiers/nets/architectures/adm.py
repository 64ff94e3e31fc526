"""The ADM architecture (Nichol and Dhariwal 2021; Dhariwal and Nichol 2021) in terms of diffusers' UNet2DModel.

improved-diffusion, guided-diffusion, consistency_models and EDM's DhariwalUNet share it and differ in the names of
their layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from purifiers.nets.hub.cards import WeightsError


class _Slot(NamedTuple):
    """A residual block or a plain resampling of the network; slots are in the order of computation.

    Attributes:
        role: `down`, `downsample`, `middle`, `up` or `upsample`.
        level: 0 is the full resolution.
        number: of the block within its level.
        name: of the module in `UNet2DModel`.
        attention: name of the attention that follows the block, or None.
    """

    role: str
    level: int
    number: int
    name: str
    attention: str | None


@dataclass(frozen=True)
class ADM:
    """Hyperparameters of an ADM network.

    Attributes:
        width, multiples: channels of level i are `width * multiples[i]`.
        blocks: residual blocks per level (one more on the way up).
        attends: for each level, whether attention follows its blocks; `middle`: the same for the middle block.
        updown: resampling by residual blocks instead of convolutions.
        heads: arguments of `UNet2D` for the heads of attention.
    """

    image_size: int
    in_channels: int
    out_channels: int
    width: int
    multiples: tuple[int, ...]
    blocks: int
    attends: tuple[bool, ...]
    updown: bool
    classes: int | None
    heads: Mapping[str, int]
    scale_shift: bool = True
    middle: bool = True
    embedding_multiple: int = 4
    narrow: bool = False

    def architecture(self) -> dict[str, Any]:
        """Constructor arguments of `UNet2D`."""
        if self.multiples[0] != 1:
            raise WeightsError(f"channel multipliers {list(self.multiples)} do not begin with 1, as they must here")
        plain = ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D") if self.updown else ("DownBlock2D", "UpBlock2D")
        resample = "resnet" if self.updown else "conv"
        groups = 1 if self.narrow else 32
        config = {
            "sample_size": self.image_size,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "block_out_channels": [self.width * multiple for multiple in self.multiples],
            "layers_per_block": self.blocks,
            "down_block_types": ["AttnDownBlock2D" if attends else plain[0] for attends in self.attends],
            "up_block_types": ["AttnUpBlock2D" if attends else plain[1] for attends in reversed(self.attends)],
            "downsample_type": resample,
            "upsample_type": resample,
            "resnet_time_scale_shift": "scale_shift" if self.scale_shift else "default",
            "attention_head_dim": self.width,
            "add_attention": self.middle,
            "norm_num_groups": groups,
            "attn_norm_num_groups": groups,
            "norm_eps": 1e-5,
            "time_embedding_dim": self.width * self.embedding_multiple,
            "num_class_embeds": self.classes,
        }
        return {"config": config, **self.heads, **({"channels_per_group": 4} if self.narrow else {})}

    def slots(self) -> Iterator[_Slot]:
        last = len(self.multiples) - 1

        def blocks(role: str, level: int, part: str, count: int) -> Iterator[_Slot]:
            for i in range(count):
                attention = f"{part}.attentions.{i}" if self.attends[level] else None
                yield _Slot(role, level, i, f"{part}.resnets.{i}", attention)

        for level in range(last + 1):
            yield from blocks("down", level, f"down_blocks.{level}", self.blocks)
            if level < last:
                yield _Slot("downsample", level, 0, f"down_blocks.{level}.downsamplers.0", None)
        yield _Slot("middle", last, 0, "mid_block.resnets.0", "mid_block.attentions.0" if self.middle else None)
        yield _Slot("middle", last, 1, "mid_block.resnets.1", None)
        for level in range(last, -1, -1):
            yield from blocks("up", level, f"up_blocks.{last - level}", self.blocks + 1)
            if level:
                yield _Slot("upsample", level, 0, f"up_blocks.{last - level}.upsamplers.0", None)
