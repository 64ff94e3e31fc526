"""OpenAI's JAX checkpoints of CIFAR-10 (consistency_models_cifar10): NCSN++ with the names of flax."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from purifiers.nets.architectures.songunet import FIR, Block, SongUNet
from purifiers.nets.checkpoints.state import FORMATS, Checkpoint, Origin, Style, gather
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.files import lay_out

_STYLES = {
    "conv": Style("/kernel", "/bias", lambda w: w.permute(3, 2, 0, 1)),  # HWIO
    "dense": Style("/kernel", "/bias", lambda w: w.t()),
    "norm": Style("/scale", "/bias"),
    "nin": Style("/W", "/b", lambda w: w.t()),
}
_FIR_CONV = Style("/weight", "/bias", lambda w: w.permute(3, 2, 0, 1))
_LAYERS = FORMATS["jcm"]
_SIZE = 32  # of CIFAR-10


def read(kind: str, params: Mapping[str, Tensor], model: Mapping[str, Any] | None) -> Checkpoint:
    """A checkpoint as a denoiser (`jcm-edm`) or a consistency model (`jcm-consistency`).

    Parameters:
        params: `params_ema`, by path (`Conv_0/kernel`).
        model: `config.model`; None for a released checkpoint.

    Raises:
        WeightsError: an option is not supported, or the state has another architecture.
    """
    model = {**_LAYERS["released"], **(model or {})}
    for name, value in _LAYERS["required"].items():
        if model.get(name, value) != value:
            raise WeightsError(f"its {name} is {model[name]!r}; only {value!r} is supported")
    architecture = {
        "img_resolution": _SIZE,
        "model_channels": model["nf"],
        "channel_mult": list(model["ch_mult"]),
        "num_blocks": model["num_res_blocks"],
        "attn_resolutions": list(model["attn_resolutions"]),
        "embedding_type": "fourier",
        "channel_mult_noise": 2,
        "encoder_type": "residual",
        "resample_filter": list(model["fir_kernel"]),
    }
    denoiser = {"t_min": model["t_min"], "t_max": model["t_max"], "sigma_data": model["data_std"], "time_scale": 0.25}
    card = Card("edm" if kind == "jcm-edm" else "consistency", architecture, denoiser, network="SongUNet")
    network = lay_out(card)
    assert isinstance(network, SongUNet)
    modules, exact = _names(network, model["fir_kernel"])
    return Checkpoint(card, gather(network, params, modules, exact))


def _names(network: SongUNet, taps: list[int]) -> tuple[dict[str, tuple[str, Style]], dict[str, Origin]]:
    """Our modules and their names in flax, which numbers layers of one kind in the order of computation, as here."""
    modules: dict[str, tuple[str, Style]] = {}

    def add(kind: str, ours: str = "", theirs: str = "") -> None:
        for layer, (name, style) in _LAYERS[kind].items():
            modules[f"{ours}{layer}"] = (f"{theirs}{name}", _STYLES[style])

    add("outer")
    for i in range(len(network.pyramid)):
        modules[f"pyramid.{i}.1"] = (f"Downsample_{i}/Conv2d_0", _FIR_CONV)
    blocks = [(name, block) for name, block in network.named_modules() if isinstance(block, Block)]
    for i, (name, _) in enumerate(blocks):
        add("resnet", f"{name}.resnet.", f"ResnetBlockBigGANpp_{i}/")
    for i, name in enumerate(name for name, block in blocks if block.attention is not None):
        add("attention", f"{name}.attention.", f"AttnBlockpp_{i}/")
    exact = {"embed.frequencies": Origin(("GaussianFourierProjection_0/W",))}
    constant = FIR(taps, "down").filter  # a constant in their code, absent from checkpoints
    exact |= {name: Origin((), lambda: constant) for name in network.state_dict() if name.endswith(".filter")}
    return modules, exact
