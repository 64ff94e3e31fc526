"""Names of networks in presets, and their files on this machine. Reads no tensors and needs no torch."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from purifiers.nets.hub import cards
from purifiers.nets.hub.cards import WeightsError, fingerprint
from purifiers.nets.hub.known import KINDS, NETWORKS, Known

_FOLDER = "PURIFYBENCH_NETWORKS"  # environment variable: folder of downloads, instead of the user's cache
_HUB_NAME = r"\w(?:[\w.-]{0,94}\w)?"
# As the hub's library accepts them. A revision is a path in its cache, so none leaves that.
_HUB_ID = re.compile(rf"(?![^@]*(?:--|\.\.))({_HUB_NAME}/{_HUB_NAME})(?<!\.git)(?:@(?!.*\.\.)(\w[\w./-]*))?", re.ASCII)
_LABEL = re.compile(r"(.*)\?label=(mean|\d+)")
CONFIG = "config.json"
_DIGITS = 16  # of an identity
_PARTS = ("", "unet", "transformer", "scheduler")  # folders of a repository that define its network
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack")


@dataclass(frozen=True)
class Source:
    """A network by name, and the file or folder that holds it.

    Attributes:
        name: without kind and label.
        kind: a key of `known.KINDS`, or a word of one; None: as the content says.
        label: default class of a class-conditional network: a number, or `mean`.
        path: of the file or folder, also before its download (`present` is False then).
        known: the published network to download; None for local files.
    """

    name: str
    kind: str | None
    label: str | None
    path: Path
    known: Known | None = None

    @property
    def present(self) -> bool:
        return self.path.exists()

    @property
    def is_card(self) -> bool:
        """Whether this is a weight file of this project: by its metadata, or for lack of a config.json."""
        if self.path.suffix != ".safetensors" or self.path.is_dir() or self.kind not in (None, "card"):
            return False
        return cards.has_facts(self.path) or not (self.path.parent / CONFIG).exists()

    def __str__(self) -> str:
        """A name of the same network that does not depend on the working directory."""
        kind = f"{self.kind}:" if self.kind else ""
        return f"{kind}{self.path}" + (f"?label={self.label}" if self.label else "")

    def files(self) -> list[Path]:
        """The files that decide what the network computes: weights and configurations."""
        if self.path.is_file():
            beside = self.path.parent / CONFIG
            return [self.path, *([beside] if beside.is_file() else [])]
        folders = [self.path / part for part in _PARTS if (self.path / part).is_dir()]
        files = [file for folder in folders for file in sorted(folder.iterdir()) if file.is_file()]
        return [file for file in files if file.suffix in (*WEIGHTS, ".json", "")]

    def identity(self) -> str:
        """16 hex digits that change with the weights and with everything else that decides the computation.

        Raises:
            WeightsError: a weight file of this project is missing or damaged.
            OSError: another file cannot be read.
        """
        if self.is_card:
            facts = [cards.read_facts(self.path)[1]]
            if self.label is None:
                return facts[0][:_DIGITS]
            facts.append(self.label)
        else:
            root = self.path if self.path.is_dir() else self.path.parent
            facts = [f"{self.kind} {self.label}"]
            facts += [f"{file.relative_to(root)} {fingerprint(file)}" for file in self.files()]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:_DIGITS]


def find(text: str | Path) -> Source:
    """The network that `[KIND:]NAME[?label=K]` names, present or not; downloads nothing.

    NAME is a file, a folder, a bundled network (`mnist5k/edm`), a known one (`cd-lpips`) or a hub id, perhaps with a
    revision (`google/ddpm-cifar10-32@main`).

    Raises:
        WeightsError: the name is unknown; the message has the nearest names.
    """
    name, kind, label = _parts_of(text)
    if Path(name).exists():
        return Source(name, kind, label, Path(name).absolute())  # not resolved: a hub cache names files by links
    bundled = cards.BUNDLED / f"{name}.safetensors"
    if bundled.exists():
        return Source(name, kind, label, bundled)
    known = NETWORKS.get(name)
    hub = _HUB_ID.fullmatch(name)
    if known is None and hub and Path(name).suffix not in WEIGHTS and not (cards.BUNDLED / hub[1]).parent.exists():
        known = Known("diffusers", repository=hub[1], revision=hub[2])
    if known is not None:
        kept = _place(name, known)
        path = kept if kept.exists() or not known.repository else _hub_cache(known) or kept
        return Source(name, kind or known.kind, label, path, known)
    if Path(name).suffix == ".safetensors" or name.startswith(tuple(f"{p.name}/" for p in cards.BUNDLED.glob("*"))):
        raise cards.missing(name)
    close = difflib.get_close_matches(name, NETWORKS, n=1, cutoff=0.5)
    raise WeightsError(
        f"no network {name!r}: it is no file, no folder and no known name."
        + (f" Did you mean {close[0]!r}?" if close else "")
        + f" Known: {', '.join(NETWORKS)}; or a hub id, ORGANISATION/NAME"
    )


def _parts_of(text: str | Path) -> tuple[str, str | None, str | None]:
    """Name, kind and label of `[KIND:]NAME[?label=K]`."""
    name, kind, label = str(text), None, None
    before, colon, after = name.partition(":")
    if colon and before in words():
        kind, name = before, after
    if match := _LABEL.fullmatch(name):
        name, label = match.groups()
    return name, kind, label


def given_path(text: str) -> Path | None:
    """The file or folder whose path is in `text`; None for names of other kinds."""
    path = Path(_parts_of(text)[0])
    return path if path.exists() else None


def words() -> set[str]:
    """The kinds and their words, such as `jcm` and `consistency`; a word stands for all kinds that contain it."""
    return {word for kind in KINDS for word in (kind, *kind.split("-"))}


def _place(name: str, known: Known) -> Path:
    """Path of the download of a known network, also if it is put there by hand."""
    chosen = os.environ.get(_FOLDER)
    root = Path(chosen).absolute() if chosen else user_cache_path("purifybench", appauthor=False) / "networks"
    folder = root / name.replace("/", "--")
    if known.repository:
        return folder
    return folder / (known.url.rpartition("/")[2] or name)


def _hub_cache(known: Known) -> Path | None:
    """The folder of a repository in the cache of the hub's library, if it is complete."""
    from huggingface_hub import try_to_load_from_cache

    for file in ("unet/config.json", "transformer/config.json", "config.json"):
        config = try_to_load_from_cache(known.repository, file, revision=known.revision)
        if isinstance(config, str) and any(Path(config).parent.glob("diffusion_pytorch_model.*")):
            return Path(config).parents[file.count("/")]
    return None
