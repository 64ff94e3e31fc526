"""Weight files: safetensors beside a JSON card. Nothing that is loaded here can run code."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from purifiers.nets.cards import Card, WeightsError, fingerprint, read_card, verify
from purifiers.nets.denoisers import ConsistencyFunction, EDMDenoiser, LevelledDenoiser, VPDenoiser
from purifiers.nets.unet import PixelUNet

KINDS: dict[str, type[LevelledDenoiser]] = {"edm": EDMDenoiser, "vp": VPDenoiser, "consistency": ConsistencyFunction}


def build(card: Card) -> LevelledDenoiser:
    """A denoiser with random weights, as a card describes it."""
    if card.kind not in KINDS:
        raise WeightsError(f"unknown kind of network {card.kind!r}; known: {', '.join(KINDS)}")
    return KINDS[card.kind](PixelUNet(**card.architecture), **card.denoiser)


def load(source: str | Path, device: str = "cpu") -> LevelledDenoiser:
    """The denoiser that a weight file holds, in float32, without gradients.

    Raises:
        WeightsError: the file is missing, damaged, not the one its card describes, or of another architecture.
    """
    path = verify(source)
    try:
        denoiser = build(read_card(path))
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        denoiser.network.load_state_dict(state)
    except (WeightsError, SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} cannot be loaded as its card says ({error}); restore both from the repository, or train the "
            "network again"
        ) from error
    return denoiser.to(device).eval().requires_grad_(False)


def save(path: Path, network: nn.Module, card: Card) -> Path:
    """Write a network's weights in float16 and its card; returns the weight file's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in network.state_dict().items()
    }
    save_file(state, path)
    complete = {**asdict(card), "sha256": fingerprint(path)}
    path.with_suffix(".json").write_text(json.dumps(complete, indent=1) + "\n")
    return path
