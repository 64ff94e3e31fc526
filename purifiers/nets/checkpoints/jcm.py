"""OpenAI's JAX checkpoints of CIFAR-10 (consistency_models_cifar10): NCSN++ with the names of flax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from purifiers.nets.architectures.songunet import FIR, Block, SongUNet
from purifiers.nets.checkpoints.state import Checkpoint, Origin, Style, gather
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.files import lay_out

CONV = Style("kernel", "bias", lambda w: w.permute(3, 2, 0, 1))  # HWIO
DENSE = Style("kernel", "bias", lambda w: w.t())
NORM = Style("scale", "bias")
NIN = Style("W", "b", lambda w: w.t())
FIR_CONV = Style("weight", "bias", lambda w: w.permute(3, 2, 0, 1))
RESNET = {
    "norm1": ("GroupNorm_0", NORM),
    "conv1": ("Conv_0", CONV),
    "time_emb_proj": ("Dense_0", DENSE),
    "norm2": ("GroupNorm_1", NORM),
    "conv2": ("Conv_1", CONV),
    "conv_shortcut": ("Conv_2", CONV),
}
ATTENTION = {
    "group_norm": ("GroupNorm_0", NORM),
    **{ours: (f"NIN_{i}", NIN) for i, ours in enumerate(("to_q", "to_k", "to_v", "to_out.0"))},
}
SIZE = 32  # of CIFAR-10
# the entries of `config.model` that define the network, equal for all released checkpoints
RELEASED = {"nf": 128, "ch_mult": [2, 2, 2], "num_res_blocks": 4, "attn_resolutions": [16], "fir_kernel": [1, 3, 3, 1]}
REQUIRED = {  # options of the network that have one supported value
    "embedding_type": "fourier",
    "double_heads": False,
    "resamp_with_conv": True,
    "conditional": True,
    "fir": True,
    "skip_rescale": True,
    "resblock_type": "biggan",
    "progressive": "none",
    "progressive_input": "residual",
    "nonlinearity": "swish",
}


def read(kind: str, params: Mapping[str, Tensor], model: Mapping[str, Any] | None) -> Checkpoint:
    """A checkpoint as a denoiser (`jcm-edm`) or a consistency model (`jcm-consistency`).

    Parameters:
        params: `params_ema`, by path (`Conv_0/kernel`).
        model: `config.model`; None for a released checkpoint.

    Raises:
        WeightsError: an option is not supported, or the state has another architecture.
    """
    model = {**RELEASED, **(model or {})}
    for name, value in REQUIRED.items():
        if model.get(name, value) != value:
            raise WeightsError(f"its {name} is {model[name]!r}; only {value!r} is supported")
    architecture = {
        "img_resolution": SIZE,
        "model_channels": model["nf"],
        "channel_mult": list(model["ch_mult"]),
        "num_blocks": model["num_res_blocks"],
        "attn_resolutions": list(model["attn_resolutions"]),
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "encoder_type": "residual",
        "resample_filter": list(model["fir_kernel"]),
    }
    eps = model.get("t_min", 0.002)
    denoiser = {"t_min": eps, "t_max": model.get("t_max", 80.0), "sigma_data": model.get("data_std", 0.5)}
    denoiser["time_scale"] = 0.25
    if kind == "jcm-consistency":
        denoiser["eps"] = eps
    card = Card("edm" if kind == "jcm-edm" else "consistency", architecture, denoiser, network="SongUNet")
    network = lay_out(card)
    assert isinstance(network, SongUNet)
    modules, exact = names(network, model["fir_kernel"])
    return Checkpoint(card, gather(network, params, modules, exact, separator="/"))


def names(network: SongUNet, taps: list[int]) -> tuple[dict[str, tuple[str, Style]], dict[str, Origin]]:
    """Our modules and their names in flax, which numbers layers of one kind in the order of computation, as here."""
    modules: dict[str, tuple[str, Style]] = {
        "map0": ("Dense_0", DENSE),
        "map1": ("Dense_1", DENSE),
        "stem": ("Conv_0", CONV),
        "norm": ("GroupNorm_0", NORM),
        "out": ("Conv_1", CONV),
    }
    for i in range(len(network.pyramid)):
        modules[f"pyramid.{i}.1"] = (f"Downsample_{i}/Conv2d_0", FIR_CONV)
    blocks = attentions = 0
    for name, block in network.named_modules():
        if not isinstance(block, Block):
            continue
        for ours, (theirs, style) in RESNET.items():
            modules[f"{name}.resnet.{ours}"] = (f"ResnetBlockBigGANpp_{blocks}/{theirs}", style)
        blocks += 1
        if block.attention is not None:
            for ours, (theirs, style) in ATTENTION.items():
                modules[f"{name}.attention.{ours}"] = (f"AttnBlockpp_{attentions}/{theirs}", style)
            attentions += 1
    exact = {"embed.frequencies": Origin(("GaussianFourierProjection_0/W",), lambda w: w)}
    constant = FIR(taps, "down").filter  # a constant in their code, absent from checkpoints
    exact |= {name: Origin((), lambda: constant) for name in network.state_dict() if name.endswith(".filter")}
    return modules, exact
