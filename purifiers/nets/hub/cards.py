"""Weight cards: what a file of weights holds and how it was made. Reads no tensor and needs no torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

BUNDLED = Path(__file__).parents[2] / "weights"


class WeightsError(Exception):
    """A weight file is missing, damaged or of another architecture; the message names the file and the remedy."""


@dataclass(frozen=True)
class Card:
    """What a weight file holds: enough to rebuild the network, and the record of its making.

    Attributes:
        kind: a key of `purifiers.nets.hub.files.KINDS`, how the network becomes a denoiser.
        architecture: constructor arguments of the network.
        denoiser: constructor arguments of the denoiser besides the network (levels in units of `u`).
        training: recipe, seed, steps, seconds, device, losses and validation figures.
        sha256: of the weight file.
        network: a key of `purifiers.nets.hub.files.NETWORKS`, the network's class.
    """

    kind: str
    architecture: dict
    denoiser: dict
    training: dict = field(default_factory=dict)
    sha256: str = ""
    network: str = "PixelUNet"


def bundled() -> list[str]:
    """The names of the networks that come with the project."""
    return sorted(str(path.relative_to(BUNDLED).with_suffix("")) for path in BUNDLED.rglob("*.safetensors"))


def resolve(source: str | Path) -> Path:
    """The weight file that `source` names: a path, or a bundled one such as `mnist5k/edm`."""
    for path in (Path(source), BUNDLED / f"{source}.safetensors"):
        if path.suffix == ".safetensors" and path.is_file():
            return path
    raise WeightsError(
        f"no weights at {source!r}: give a .safetensors file with its .json card beside it, or one of the bundled "
        f"networks ({', '.join(bundled()) or 'none here'}); `python -m bench train` makes them"
    )


def fingerprint(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_card(path: Path) -> Card:
    """The card beside a weight file; raises WeightsError where it is missing or unreadable."""
    card = path.with_suffix(".json")
    try:
        return Card(**json.loads(card.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{card} cannot be read ({error}); restore it from the repository, or train the network again (networks of "
            "others have a config.json beside them instead)"
        ) from error


def verify(source: str | Path) -> Path:
    """The weight file that `source` names, once its content is what its card says.

    Raises:
        WeightsError: file or card is missing or damaged.
    """
    path = resolve(source)
    if fingerprint(path) != read_card(path).sha256:
        raise WeightsError(
            f"{path} is not the file that its card describes (SHA-256 differs); restore it from the repository, "
            "or train the network again"
        )
    return path
