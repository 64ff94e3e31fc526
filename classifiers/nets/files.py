"""Networks of this project's classifiers, from and to weight files. Loading a file cannot run code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as to_bytes

from bench.files import make_folder, write_file
from classifiers.hashing import fingerprint
from classifiers.nets.cnn import CNN
from classifiers.nets.metadata import REMEDY, WeightsError, read_card, read_facts, with_facts

BUNDLED = Path(__file__).parent.parent / "weights"


def load_cnn(path: Path, device: str = "cpu") -> CNN:
    """The network of a weight file, in float32, for inference.

    Raises:
        WeightsError: the file is missing, damaged or of another architecture.
    """
    return _read_network(path).fused().to(device).eval().requires_grad_(False)


def read_cnn(path: Path) -> tuple[CNN, dict]:
    """The network of a weight file as it was trained, and its card; raises WeightsError as `load_cnn`."""
    return _read_network(path), read_card(path)


def _read_network(path: Path) -> CNN:
    architecture, _ = read_facts(path)
    try:
        model = CNN(**architecture)
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be loaded ({error}); {REMEDY}") from error
    return model


def save_cnn(path: Path, model: CNN, architecture: dict, training: dict) -> Path:
    """Write the weights in float16 (integer counters unchanged), with the architecture in the header, and the card.

    Returns:
        The path of the weight file.
    """
    make_folder(path.parent)
    state = {
        name: (tensor.half() if tensor.is_floating_point() else tensor).detach().to("cpu", copy=True).contiguous()
        for name, tensor in model.state_dict().items()
    }
    write_file(path, with_facts(to_bytes(state), architecture))
    record = {**training, "torch": torch.__version__}
    card = {"architecture": architecture, "training": record, "sha256": fingerprint(path)}
    write_file(path.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return path
