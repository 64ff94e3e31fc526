"""What weights are, as part of a cell's identity: hashes of files and of what their cards say. Loads no network."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from purifiers.nets.hub.cards import fingerprint
from purifiers.nets.hub.sources import find


def network_hash(network: str) -> str:
    """A hash of the files that make a network, and of what they are taken for."""
    return find(network).identity()


def files_hash(files: Iterable[Path]) -> str:
    """The hashes of a classifier's files."""
    return " ".join(content_hash(file) for file in files)


def content_hash(weights: Path) -> str:
    """A hash of a weight file and of what its card says of the network; the record of its training does not count."""
    card = weights.with_suffix(".json")
    try:
        facts = json.loads(card.read_text())
        described = json.dumps({k: v for k, v in facts.items() if k != "training"}, sort_keys=True)
    except (OSError, ValueError, AttributeError):  # who loads the weights says what is wrong with their card
        described = ""
    return hashlib.sha256(f"{fingerprint(weights)} {described}".encode()).hexdigest()[:16]
