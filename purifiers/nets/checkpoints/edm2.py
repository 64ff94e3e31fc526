"""Networks of NVlabs/edm2 on pixels: their forced weight normalisation and gains become plain weights."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from purifiers.nets.architectures.edm2 import EDM2, EPS
from purifiers.nets.checkpoints.state import FORMATS, Checkpoint, Origin, gather
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.files import lay_out

_LEVELS = {"t_min": 0.002, "t_max": 80.0}  # the sampling range of Karras et al. 2024, Table 6
_UNUSED = {"use_fp16", "dropout", "logvar_channels"}  # no effect on the denoiser
_LAYERS: dict[str, str] = FORMATS["edm2"]["block"]


def read(kind: str, state: Mapping[str, Tensor], arguments: Mapping[str, Any] | None) -> Checkpoint:
    """An EDM2 denoiser from `Precond.state_dict()` and the arguments of its constructor.

    Raises:
        WeightsError: a latent network, arguments that are not supported, or a state of another architecture.
    """
    if arguments is None:
        raise WeightsError("its architecture is not known: put a config.json with the arguments of Precond beside it")
    used = {name: value for name, value in arguments.items() if name not in _UNUSED}
    sigma_data = used.pop("sigma_data", 0.5)
    if used["img_channels"] not in (1, 3):
        raise WeightsError(
            f"it is a latent model ({used['img_channels']} channels): its network removes noise from the codes of an "
            "autoencoder, and randomized smoothing adds noise to pixels; the networks on pixels are edm2-img64-*"
        )
    if list(used.pop("resample_filter", (1, 1))) != [1, 1]:
        raise WeightsError("resample_filter other than [1, 1] is not supported")
    unknown = sorted(set(used) - set(inspect.signature(EDM2).parameters))
    if unknown:
        raise WeightsError(f"it has arguments that are not supported: {', '.join(unknown)}")
    card = Card("edm", used, {**_LEVELS, "sigma_data": sigma_data, "time_scale": 0.25}, network="EDM2")
    network = lay_out(card)
    assert isinstance(network, EDM2)
    plain = {name.removeprefix("unet."): tensor for name, tensor in state.items()}
    return Checkpoint(card, gather(network, plain, {}, _origins(network, used["img_resolution"]), _unused))


def _unused(name: str) -> bool:
    return name.startswith("logvar_")


def _normalised(weight: Tensor, gain: Tensor | float = 1.0) -> Tensor:
    """The weight that a layer multiplies by: rows of length 1, times the gain (eqs. 47 and 66)."""
    weight = weight.float()
    size = torch.linalg.vector_norm(weight, dim=list(range(1, weight.ndim)), keepdim=True)
    return weight / (EPS * math.sqrt(weight[0].numel()) + size) * gain


def _table(weight: Tensor) -> Tensor:
    """The table of values of a linear map of one-hot labels, with their scaling."""
    return _normalised(weight).t() * math.sqrt(weight.shape[1])


def _origins(network: EDM2, resolution: int) -> dict[str, Origin]:
    """The origin of every entry of our state."""
    names = _names(network, resolution)
    origins = {
        "fourier.frequencies": Origin(("emb_fourier.freqs", "emb_fourier.phases"), lambda *rows: torch.stack(rows)),
        "noise.weight": Origin(("emb_noise.weight",), _normalised),
        "label.weight": Origin(("emb_label.weight",), _table),
        "stem.weight": Origin((f"enc.{resolution}x{resolution}_conv.weight",), _normalised),
        "output.weight": Origin(("out_conv.weight", "out_gain"), _normalised),
    }
    for ours, theirs in names.items():
        gained = (f"{theirs}.emb_linear.weight", f"{theirs}.emb_gain")
        origins[f"{ours}.modulation.weight"] = Origin(gained, _normalised)
        for layer, stored in _LAYERS.items():
            origins[f"{ours}.{layer}.weight"] = Origin((f"{theirs}.{stored}.weight",), _normalised)
    return origins


def _names(network: EDM2, resolution: int) -> dict[str, str]:
    """Our blocks and their names there, which count the blocks of each resolution."""
    names, size, number = {}, resolution, 0
    for part, stored, blocks in (("encoder", "enc", network.encoder), ("decoder", "dec", network.decoder)):
        for i, block in enumerate(blocks):
            if block.resample is not None:
                size, number = (size // 2 if block.resample == "down" else size * 2), 0
                name = block.resample
            elif part == "decoder" and i not in network.joins:
                number, name = 0, f"in{i}"
            else:
                number, name = number + 1, f"block{number}"
            names[f"{part}.{i}"] = f"{stored}.{size}x{size}_{name}"
    return names
