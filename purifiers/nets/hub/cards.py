"""Weight files of this project: identity, checksum and record, read without torch and without the tensors.

A file is safetensors whose header metadata has two entries: `purifybench`, the canonical JSON of everything that
decides the computation besides the weights, and `sha256`, a checksum over that text, the table of tensors and their
bytes. The JSON card beside the file is a record for people: how the network was trained.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import field
from functools import cache
from pathlib import Path

from pydantic.dataclasses import dataclass

from bench.files import open_file, parse_json, read_json, validated

BUNDLED = Path(__file__).parents[2] / "weights"
FACTS, CHECKSUM = "purifybench", "sha256"  # entries of the header metadata
_DECISIVE = ("kind", "architecture", "denoiser", "network")  # fields of a card that decide the computation
_LARGEST_HEADER = 16 << 20  # bytes; the safetensors format allows 100 MB, and a header of this project has 100 kB
# Time stamps of file systems are coarse (2 s on FAT): a file written this recently can change and keep its time stamp.
_SETTLED_NS = 2_000_000_000
REMEDY = "restore it from the repository, or train the network again"


class WeightsError(Exception):
    """A weight file is missing, damaged or of another architecture; the message names the file and the remedy."""


@dataclass(frozen=True, config={"extra": "forbid"})
class Card:
    """Description of a network: the facts that rebuild it, and the record of its training.

    Attributes:
        kind: a key of `purifiers.nets.hub.files._KINDS`, the class of the denoiser.
        architecture: constructor arguments of the network.
        denoiser: constructor arguments of the denoiser, except the network (levels in units of `u`).
        training: recipe, seed, steps, seconds, device, losses and validation figures.
        sha256: of the weight file.
        network: a key of `purifiers.nets.hub.files._NETWORKS`, the class of the network.
    """

    kind: str
    architecture: dict
    denoiser: dict
    training: dict = field(default_factory=dict)
    sha256: str = ""
    network: str = "PixelUNet"

    def facts(self) -> str:
        """Canonical JSON of the fields that decide the computation."""
        return _canonical({name: getattr(self, name) for name in _DECISIVE})


def _canonical(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def bundled() -> list[str]:
    """Names of the networks that come with the project."""
    return sorted(str(path.relative_to(BUNDLED).with_suffix("")) for path in BUNDLED.rglob("*.safetensors"))


def missing(name: str | Path) -> WeightsError:
    """The error for weights that do not exist."""
    return WeightsError(
        f"no weights at {str(name)!r}: give a .safetensors file of this project, or one of the bundled networks "
        f"({', '.join(bundled()) or 'none here'}); `python -m bench train` makes them"
    )


def fingerprint(path: Path, prefix: str = "", offset: int = 0) -> str:
    """SHA-256 of `prefix` and the content of a file from `offset` on; each file is read once until it changes."""
    status = path.stat()
    if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
        return _digest(path, prefix, offset)
    return _remembered(path.resolve(), prefix, offset, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _remembered(path: Path, prefix: str, offset: int, *_status: int) -> str:
    return _digest(path, prefix, offset)


def _digest(path: Path, prefix: str, offset: int) -> str:
    """As `fingerprint`, always computed from the file."""
    with open_file(path) as file:
        file.seek(offset)
        return hashlib.file_digest(file, lambda: hashlib.sha256(prefix.encode())).hexdigest()


def _read_header(path: Path) -> tuple[dict[str, str], str, int]:
    """Header of a safetensors file: metadata, the table of tensors as canonical JSON, and the offset of the data.

    Raises:
        ValueError: the file does not begin with one.
        OSError: the file cannot be read.
    """
    with open_file(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if not 0 < length <= _LARGEST_HEADER:
            raise ValueError("it is cut off or damaged: no safetensors header")
        header = parse_json(file.read(length))
    metadata = header.pop("__metadata__", {}) if isinstance(header, dict) else None
    if not isinstance(metadata, dict):
        raise ValueError("it is cut off or damaged: its header is no table of tensors")
    return metadata, _canonical(header), 8 + length


def has_facts(path: Path) -> bool:
    """Whether a file carries the metadata of this project; False for an unreadable one."""
    try:
        return FACTS in _read_header(path)[0]
    except (OSError, ValueError):
        return False


def read_card(path: Path) -> Card:
    """The card beside a weight file; raises WeightsError if it is missing or unreadable."""
    card = path.with_suffix(".json")
    try:
        return validated(Card, read_json(card))
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{card} cannot be read ({error}); {REMEDY}") from error


def read_facts(path: Path) -> tuple[Card, str]:
    """The facts that rebuild the network of a weight file, and its verified checksum.

    The checksum covers the facts and the tensors: two files with the same checksum compute the same.

    Raises:
        WeightsError: the file is missing or damaged, or has no metadata of this project.
    """
    try:
        metadata, table, offset = _read_header(path)
        if FACTS not in metadata:
            raise ValueError("it has no metadata of this project; a published network needs its config.json beside it")
        facts = metadata[FACTS]
        checksum = fingerprint(path, facts + table, offset)
        if checksum != metadata.get(CHECKSUM):
            raise WeightsError(f"{path} is damaged (the SHA-256 in its header differs from its content); {REMEDY}")
        return validated(Card, parse_json(facts)), checksum
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} cannot be read ({error}); {REMEDY}") from error


def with_facts(content: bytes, facts: str) -> bytes:
    """A safetensors file with `facts` and the checksum in its header, and the same tensors.

    Parameters:
        content: a whole safetensors file; other metadata is dropped.
    """
    length = int.from_bytes(content[:8], "little")
    table, data = parse_json(content[8 : 8 + length]), content[8 + length :]
    table.pop("__metadata__", None)
    checksum = hashlib.sha256((facts + _canonical(table)).encode() + data).hexdigest()
    header = _canonical({"__metadata__": {FACTS: facts, CHECKSUM: checksum}, **table}).encode()
    header += b" " * (-len(header) % 8)  # the format aligns the data to 8 bytes
    return len(header).to_bytes(8, "little") + header + data
