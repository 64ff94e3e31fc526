"""Networks of NVlabs/edm: SongUNet (DDPM++, NCSN++) and DhariwalUNet (ADM) under EDM's preconditioning."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from purifiers.nets.architectures.adm import ADM
from purifiers.nets.architectures.songunet import FIR, SongUNet
from purifiers.nets.checkpoints.state import FORMATS, PLAIN, Checkpoint, Origin, Style, fused_attention, gather
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.files import lay_out

_LEVELS = {"t_min": 0.002, "t_max": 80.0}  # the range of Karras et al. 2022; the files have 0 to infinity
_UNUSED = {"use_fp16", "sigma_min", "sigma_max", "augment_dim", "dropout", "label_dropout"}  # no effect on inference
_HEAD = 64  # channels per head of a DhariwalUNet
_FILTER = ".resample_filter"
_LAYERS = FORMATS["edm"]

_Modules = dict[str, tuple[str, Style]]


def read(kind: str, state: Mapping[str, Tensor], arguments: Mapping[str, Any] | None) -> Checkpoint:
    """An EDM network from `EDMPrecond.state_dict()` and the arguments of its constructor.

    Raises:
        WeightsError: arguments that are not supported, or a state of another architecture.
    """
    if arguments is None:
        raise WeightsError(
            "its architecture is not known: put a config.json with the arguments of EDMPrecond beside it"
        )
    used = {name: value for name, value in arguments.items() if name not in _UNUSED}
    model, sigma_data = used.pop("model_type", "DhariwalUNet"), used.pop("sigma_data", 0.5)
    if model not in _MODELS:
        raise WeightsError(f"its network is a {model!r}; known: {', '.join(_MODELS)}")
    channels = used.pop("img_channels", 3)
    plain = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    plan = _MODELS[model]({**used, "in_channels": channels, "out_channels": channels}, plain)
    denoiser = {**_LEVELS, "sigma_data": sigma_data, "time_scale": 0.25}
    card = Card(kind, plan.architecture, denoiser, network=plan.network)
    return Checkpoint(card, gather(lay_out(card), plain, plan.modules, plan.exact, _unused))


class _Plan(NamedTuple):
    """One of our networks, and the names of its modules and entries in an EDM state."""

    network: str
    architecture: dict[str, Any]
    modules: _Modules
    exact: dict[str, Origin]


def _outer(network: str, resolution: int) -> _Modules:
    """Names of the modules around the blocks of a network, `song` or `adm`."""
    size = f"{resolution}x{resolution}"
    return {ours: (theirs.format(size=size), PLAIN) for ours, theirs in _LAYERS[network].items()}


def block(ours: str, theirs: str, attention: str | None, heads: int) -> Iterator[tuple[str, tuple]]:
    """Names of the modules of a UNetBlock: a residual block, and its attention if `attention` is not None."""
    for layer, stored in _LAYERS["block"].items():
        yield f"{ours}.{layer}", (f"{theirs}.{stored}", PLAIN)
    if attention:
        yield from fused_attention(attention, theirs, ("norm2", "proj", "qkv"), "hcp", heads)


def _unused(name: str) -> bool:
    return name == "map_augment.weight" or name.endswith(_FILTER)


def _song(arguments: dict[str, Any], state: Mapping[str, Tensor]) -> _Plan:
    """A SongUNet; its resampling filters are checked against the arguments."""
    if arguments.pop("decoder_type", "standard") != "standard":
        raise WeightsError("decoder_type other than 'standard' is not supported")
    _refuse_unknown(set(arguments) - set(inspect.signature(SongUNet).parameters))
    taps = arguments.get("resample_filter", (1, 1))
    expected = FIR(taps, "down").filter
    for name, tensor in state.items():
        if name.endswith(_FILTER) and not (tensor.shape == expected.shape and torch.allclose(tensor.float(), expected)):
            raise WeightsError(f"{name} is not the filter {list(taps)} of its arguments")
    resolution, levels = arguments["img_resolution"], len(arguments.get("channel_mult", (1, 2, 2, 2)))
    blocks = arguments.get("num_blocks", 4)
    down, pyramid, middle, up = _song_names(resolution, levels, blocks)
    modules = _outer("song", resolution) | {f"pyramid.{i}.1": (theirs, PLAIN) for i, theirs in enumerate(pyramid)}
    exact = {f"pyramid.{i}.0.filter": Origin((theirs + _FILTER,)) for i, theirs in enumerate(pyramid)}
    exact["embed.frequencies"] = Origin(("map_noise.freqs",))
    exact["label.weight"] = Origin(("map_label.weight", "map_label.bias"), _one_hot)
    for part, names in (("encoder", down), ("middle", middle), ("decoder", up)):
        for i, theirs in enumerate(names):
            modules.update(block(f"{part}.{i}.resnet", theirs, f"{part}.{i}.attention", 1))
            for mode in ("downsample", "upsample"):
                exact[f"{part}.{i}.resnet.{mode}.filter"] = Origin((f"{theirs}.conv0{_FILTER}",))
    return _Plan("SongUNet", arguments, modules, exact)


def _refuse_unknown(arguments: set[str]) -> None:
    if arguments:
        raise WeightsError(f"it has arguments that are not supported: {', '.join(sorted(arguments))}")


def _song_names(resolution: int, levels: int, blocks: int) -> tuple[list[str], list[str], list[str], list[str]]:
    """Names in EDM of encoder blocks, pyramid, middle and decoder blocks, each in the order of computation."""
    at = [f"{resolution >> level}x{resolution >> level}" for level in range(levels)]
    down, up = [f"enc.{at[0]}_block{i}" for i in range(blocks)], []
    for size in at[1:]:
        down += [f"enc.{size}_down", *(f"enc.{size}_block{i}" for i in range(blocks))]
    for size in reversed(at):
        up += [*([] if size == at[-1] else [f"dec.{size}_up"]), *(f"dec.{size}_block{i}" for i in range(blocks + 1))]
    return down, [f"enc.{size}_aux_residual" for size in at[1:]], [f"dec.{at[-1]}_in0", f"dec.{at[-1]}_in1"], up


def _one_hot(weight: Tensor, bias: Tensor) -> Tensor:
    """The table of values of a linear map of one-hot labels, with the scaling of SongUNet."""
    return weight.t() * math.sqrt(weight.shape[1]) + bias


def _dhariwal(arguments: dict[str, Any], state: Mapping[str, Tensor]) -> _Plan:
    """A DhariwalUNet, which is a standard UNet2DModel."""
    resolution, width = arguments.pop("img_resolution"), arguments.pop("model_channels", 192)
    multiples = tuple(arguments.pop("channel_mult", (1, 2, 3, 4)))
    attention = arguments.pop("attn_resolutions", (32, 16, 8))
    adm = ADM(
        image_size=resolution,
        in_channels=arguments.pop("in_channels"),
        out_channels=arguments.pop("out_channels"),
        width=width,
        multiples=multiples,
        blocks=arguments.pop("num_blocks", 3),
        attends=tuple(resolution >> i in attention and width * m >= _HEAD for i, m in enumerate(multiples)),
        updown=True,
        classes=arguments.pop("label_dim", 0) or None,
        heads={"head_channels": _HEAD},
        middle=width * multiples[-1] >= _HEAD,
        embedding_multiple=arguments.pop("channel_mult_emb", 4),
        narrow=width < 128,
    )
    _refuse_unknown(set(arguments))
    modules = _outer("adm", resolution)
    for slot in adm.slots():
        deeper = resolution >> (slot.level + (1 if slot.role == "downsample" else -1 if slot.role == "upsample" else 0))
        part = "enc" if slot.role.startswith("down") else "dec"
        theirs = f"{part}.{deeper}x{deeper}_{_LAYERS['slots'][slot.role].format(number=slot.number)}"
        heads = max(1, width * multiples[slot.level] // _HEAD)
        modules.update(block(f"unet.{slot.name}", theirs, slot.attention and f"unet.{slot.attention}", heads))
    exact = {"unet.class_embedding.weight": Origin(("map_label.weight",), torch.t)}
    return _Plan("UNet2D", adm.architecture(), modules, exact)


_MODELS = {"SongUNet": _song, "DhariwalUNet": _dhariwal}
