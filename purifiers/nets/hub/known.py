"""Published networks with a name: kind, description and address, from `known.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.files import read_toml

HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Known:
    """A published network.

    Attributes:
        kind: a key of KINDS.
        about: short description.
        url: of the file; empty for a repository.
        repository, revision: on the Hugging Face hub, `organisation/name`.
        sha256: of the file, if published.
        megabytes: estimated size of the download.
    """

    kind: str
    about: str = ""
    url: str = ""
    repository: str = ""
    revision: str | None = None
    sha256: str | None = None
    megabytes: int | None = None


_TABLE = read_toml(Path(__file__).with_suffix(".toml"))
KINDS: dict[str, str] = _TABLE["kinds"]  # kind of checkpoint -> its format, and the function of the network
NETWORKS = {name: Known(**network) for name, network in _TABLE["networks"].items()}
