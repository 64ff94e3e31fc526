"""Weight files of this project's classifiers: identity and checksum, read without torch and without the tensors.

A file is safetensors whose header metadata has two entries: `purifybench`, the canonical JSON of the architecture, and
`sha256`, a checksum over that text, the table of tensors and their bytes. The JSON card beside the file is a record for
people.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from bench.files import open_file, parse_json, read_json, validated
from classifiers.base import ClassifierError
from classifiers.hashing import DIGITS, fingerprint

FACTS, CHECKSUM = "purifybench", "sha256"  # entries of the header metadata
_LARGEST_HEADER = 16 << 20  # bytes; one of this project has 100 kB
REMEDY = "restore it from the repository, or make it with `python -m bench train`"


class WeightsError(ClassifierError):
    """A weight file is missing, damaged or of another architecture; the message names the file and the remedy."""


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def identity(path: Path) -> str:
    """16 hex digits that change with the weights and with the architecture; raises WeightsError as `read_facts`."""
    return read_facts(path)[1][:DIGITS]


def read_facts(path: Path) -> tuple[dict, str]:
    """The constructor arguments of the network in a weight file, and the verified checksum of arguments and tensors.

    Raises:
        WeightsError: the file is missing or damaged, or has no metadata of this project.
    """
    try:
        with open_file(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LARGEST_HEADER:
                raise ValueError("it is cut off or damaged: no safetensors header")
            table = parse_json(file.read(length))
        metadata = table.pop("__metadata__", {})
        if FACTS not in metadata:
            raise ValueError("it has no metadata of this project")
        checksum = fingerprint(path, metadata[FACTS] + _canonical(table), 8 + length)
        if checksum != metadata[CHECKSUM]:
            raise WeightsError(f"{path} is damaged (the SHA-256 in its header differs from its content); {REMEDY}")
        return validated(dict[str, Any], parse_json(metadata[FACTS])["architecture"]), checksum
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); {REMEDY}") from error


def read_card(path: Path) -> dict:
    """The card beside a weight file; raises WeightsError if it is missing or unreadable."""
    card = path.with_suffix(".json")
    try:
        content = read_json(card)
        return {"architecture": content["architecture"], "training": content["training"], "sha256": content["sha256"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{card} cannot be read ({type(error).__name__}: {error}); {REMEDY}") from error


def with_facts(content: bytes, architecture: dict) -> bytes:
    """A safetensors file with architecture and checksum in its header, and the same tensors.

    Parameters:
        content: a whole safetensors file; other metadata is dropped.
    """
    facts = _canonical({"architecture": architecture})
    length = int.from_bytes(content[:8], "little")
    table, data = parse_json(content[8 : 8 + length]), content[8 + length :]
    table.pop("__metadata__", None)
    checksum = hashlib.sha256((facts + _canonical(table)).encode() + data).hexdigest()
    header = _canonical({"__metadata__": {FACTS: facts, CHECKSUM: checksum}, **table}).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return len(header).to_bytes(8, "little") + header + data
