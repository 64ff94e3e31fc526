"""Weight files of this project as denoisers: safetensors with a JSON card. Loading them cannot run code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from bench.files import make_folder, write_file
from purifiers.nets.architectures.dit import DiT
from purifiers.nets.architectures.edm2 import EDM2
from purifiers.nets.architectures.ffdnet import FFDNet
from purifiers.nets.architectures.songunet import SongUNet
from purifiers.nets.architectures.unet import PixelUNet
from purifiers.nets.architectures.unet2d import UNet2D
from purifiers.nets.denoisers import ConsistencyFunction, EDMDenoiser, LevelledDenoiser, VPDenoiser
from purifiers.nets.flow import FlowDenoiser
from purifiers.nets.hub.cards import REMEDY, Card, WeightsError, fingerprint, missing, read_facts, with_facts
from purifiers.nets.regression import RegressionDenoiser

_KINDS: dict[str, type[LevelledDenoiser]] = {
    "edm": EDMDenoiser,
    "vp": VPDenoiser,
    "consistency": ConsistencyFunction,
    "flow": FlowDenoiser,
    "regression": RegressionDenoiser,
}
_NETWORKS: dict[str, type[nn.Module]] = {
    "PixelUNet": PixelUNet,
    "SongUNet": SongUNet,
    "UNet2D": UNet2D,
    "DiT": DiT,
    "EDM2": EDM2,
    "FFDNet": FFDNet,
}


def build(card: Card) -> LevelledDenoiser:
    """The denoiser of a card, with random weights; raises WeightsError for unknown classes."""
    _refuse_unknown(card)
    return _KINDS[card.kind](_NETWORKS[card.network](**card.architecture), **card.denoiser)


def _refuse_unknown(card: Card) -> None:
    for term, name, known in (("kind of network", card.kind, _KINDS), ("network", card.network, _NETWORKS)):
        if name not in known:
            raise WeightsError(f"unknown {term} {name!r}; known: {', '.join(known)}")


def lay_out(card: Card) -> nn.Module:
    """The network of a card on the meta device, for names and shapes of its state.

    Raises:
        WeightsError: the arguments do not define a network.
    """
    _refuse_unknown(card)
    try:
        with torch.device("meta"):
            return _NETWORKS[card.network](**card.architecture)
    except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"no network can be built of its arguments ({error})") from error


def assemble(card: Card, state: Mapping[str, Tensor]) -> LevelledDenoiser:
    """The denoiser of a card with these weights, in float32, without gradients.

    Raises:
        WeightsError: the state has another architecture.
    """
    network = lay_out(card)
    try:
        network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, assign=True)
        denoiser = _KINDS[card.kind](network, **card.denoiser)
    except (RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(str(error)) from error
    return denoiser.eval().requires_grad_(False)


def read(path: Path) -> tuple[Card, LevelledDenoiser]:
    """The network of a weight file of this project, in float32, without gradients, and the facts that describe it.

    Raises:
        WeightsError: the file is missing, damaged or of another architecture.
    """
    if not path.is_file():
        raise missing(path)
    card, _ = read_facts(path)
    try:
        return card, assemble(card, load_file(path))
    except (WeightsError, SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be loaded ({error}); {REMEDY}") from error


def load(path: Path, device: str = "cpu") -> LevelledDenoiser:
    """As `read`, the denoiser alone, on a device."""
    return read(path)[1].to(device)


def save(path: Path, network: nn.Module, card: Card, precision: torch.dtype = torch.float16) -> Path:
    """Write the weights of a network, with the facts of its card in the header, and the card; returns the path."""
    make_folder(path.parent)
    state = {name: tensor.detach().to("cpu", precision).contiguous() for name, tensor in network.state_dict().items()}
    write_file(path, with_facts(to_bytes(state), card.facts()))
    complete = {**asdict(card), "sha256": fingerprint(path)}
    write_file(path.with_suffix(".json"), json.dumps(complete, indent=1) + "\n")
    return path
