"""Weight files of our own classifiers: safetensors beside a JSON card. Nothing that is loaded can run code."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from classifiers.nets.cnn import CNN

BUNDLED = Path(__file__).parent.parent / "weights"


class WeightsError(Exception):
    """A weight file is missing, damaged or of another architecture; the message names the file and the remedy."""


def load_cnn(path: Path, device: str = "cpu") -> CNN:
    """The network that a weight file and its card describe, in float32, for inference.

    Raises:
        WeightsError: file or card is missing, damaged, or they do not belong together.
    """
    return read_cnn(path)[0].fused().to(device).eval().requires_grad_(False)


def read_cnn(path: Path) -> tuple[CNN, dict]:
    """The network of a weight file as it was trained, and its card; raises as `load_cnn`."""
    remedy = "restore it from the repository, or make it with `python -m bench train`"
    try:
        card = json.loads(path.with_suffix(".json").read_text())
        if hashlib.sha256(path.read_bytes()).hexdigest() != card["sha256"]:
            raise WeightsError(f"{path} is not the file that its card describes (SHA-256 differs); {remedy}")
        model = CNN(**card["architecture"])
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be loaded ({error}); {remedy}") from error
    return model, card


def save_cnn(path: Path, model: CNN, architecture: dict, training: dict) -> Path:
    """Write the weights in float16 (counters as they are) and the card; returns the weight file's path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    save_file(state, path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    card = {"architecture": architecture, "training": {**training, "torch": torch.__version__}, "sha256": sha256}
    path.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    return path
