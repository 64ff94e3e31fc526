"""Load any checkpoint: detect the format and kind of a file, read it, build the network; refuse everything else."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.files import open_file
from purifiers.nets.checkpoints import diffusers as repository
from purifiers.nets.checkpoints import edm, edm2, ffdnet, jcm, openai
from purifiers.nets.checkpoints.flax_file import read_flax
from purifiers.nets.checkpoints.safe_pickle import read_pickle
from purifiers.nets.checkpoints.state import FORMATS, Checkpoint, some
from purifiers.nets.checkpoints.tensor_file import read_safetensors, read_torch
from purifiers.nets.denoisers import MEAN_LABEL, LevelledDenoiser
from purifiers.nets.hub import files
from purifiers.nets.hub.cards import Card, WeightsError, fingerprint
from purifiers.nets.hub.download import obtain
from purifiers.nets.hub.files import assemble, save
from purifiers.nets.hub.known import KINDS
from purifiers.nets.hub.sources import CONFIG, WEIGHTS, Source, words

_READERS = {"edm": edm.read, "edm2": edm2.read, "ffdnet": ffdnet.read, "jcm": jcm.read, "openai": openai.read}
_FAMILIES: dict[str, Any] = FORMATS["families"]
_SECTIONS = [family["section"] for family in _FAMILIES.values()]
_TELLING: dict[str, str] = FORMATS["telling"]
# First bytes of files of `torch.save` before it wrote zip files.
_LEGACY_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"
_PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt")
_OTHER = {"README", "LICENSE", "NOTICE"}  # files without suffix that are not weights


def _family_of(state: Mapping[str, Tensor]) -> str:
    """The project of these names of tensors, a key of `_FAMILIES`; raises WeightsError for unknown names."""
    for name, family in _FAMILIES.items():
        if any(entry.startswith(tuple(family["marks"])) for entry in state):
            return name
    if any(name.startswith("down_blocks.") for name in state):
        raise WeightsError("it is the network of a diffusers repository: give the folder with its config.json")
    if any(name.startswith("x_embedder.") for name in state):
        raise WeightsError(
            "it is a transformer of DiT or SiT, which remove noise from the codes of an autoencoder, and randomized "
            "smoothing adds noise to pixels; one on pixels loads as a diffusers folder (DiTTransformer2DModel)"
        )
    raise WeightsError(f"it is no known network; it holds {some(sorted(state)) or 'nothing'}")


def _arguments_in(config: Mapping[str, Any], family: str) -> Mapping[str, Any]:
    """Constructor arguments in a config.json; raises WeightsError if they belong to another family."""
    own = _FAMILIES[family]["section"]
    sections = [section for section in _SECTIONS if section in config]
    if sections and own not in sections:
        raise WeightsError(f"it is of another architecture: {CONFIG} has {sections[0]}, and these weights need {own}")
    arguments = config[own] if sections else {k: v for k, v in config.items() if k != "kind"}
    if not isinstance(arguments, Mapping):
        raise WeightsError(f"{own} of {CONFIG} holds {type(arguments).__name__}, not an object")
    return arguments


def convert(source: str | Path, path: str | Path, kind: str | None = None) -> Path:
    """As `purifiers.nets.convert`."""
    path = Path(path)
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path} must end in .safetensors")
    resolved = locate(source, kind)
    card, denoiser = read(resolved)
    origin = {"name": resolved.name, "sha256": {file.name: fingerprint(file) for file in resolved.files()}}
    return save(path, denoiser.network, replace(card, training={"converted from": origin}), precision=torch.float32)


def locate(source: str | Path, kind: str | None) -> Source:
    """The source of a network, downloaded if it is absent; raises WeightsError for an unknown kind."""
    resolved = obtain(source)
    if kind is not None and kind not in words():
        kinds = "; ".join(f"{name}: {about}" for name, about in KINDS.items())
        raise WeightsError(f"unknown kind {kind!r}. Known: {kinds}")
    return replace(resolved, kind=kind or resolved.kind)


def read(resolved: Source) -> tuple[Card, LevelledDenoiser]:
    """A network and its description; raises WeightsError that names the file."""
    try:
        if resolved.path.is_dir() and not repository.is_one(resolved.path):
            resolved = replace(resolved, path=_only_weights(resolved.path))
        if resolved.is_card:
            return files.read(resolved.path)
        card, state = _read_published(resolved.path, resolved.kind)
        return card, assemble(card, state)
    except WeightsError as error:
        if str(resolved.path) in str(error):
            raise
        raise WeightsError(f"{resolved.path} cannot be loaded: {error}") from error


def _read_published(path: Path, kind: str | None) -> Checkpoint:
    """A file or a diffusers folder of another project, read as the kind of network that it holds."""
    if path.is_dir():
        _choose(["diffusers"], kind)
        return repository.read(path)
    state, arguments = _open_file(path)
    family, beside = _family_of(state), path.parent / CONFIG
    stated: list[str | None] = []
    if arguments is None and beside.is_file():
        config = repository.read_json(beside)
        arguments = _arguments_in(config, family)
        implied = [_TELLING.get(f"{name}={arguments.get(name)}") for name in ("dropout", "weight_schedule")]
        stated = [config["kind"]] if config.get("kind") else implied
    convolves = family == "openai" and openai.convolves_queries(state)
    kind = _choose(_FAMILIES[family]["kinds_with_convolutions" if convolves else "kinds"], kind, stated)
    try:
        return _READERS[family](kind, state, arguments)
    except KeyError as error:
        raise WeightsError(f"its arguments lack {error}") from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise WeightsError(f"no network can be built of its arguments ({type(error).__name__}: {error})") from error


def _choose(candidates: list[str], kind: str | None, stated: Collection[str | None] = ()) -> str:
    """The candidate that fits the requested kind; of several, the one in the configuration. Raises WeightsError."""
    fitting = [c for c in candidates if kind is None or c == kind or kind in c.split("-")]
    if not fitting:
        raise WeightsError(f"its content is that of {' or '.join(candidates)}, not of {kind}")
    fitting = [c for c in fitting if c in stated] or fitting
    if len(fitting) > 1:
        names = " or ".join(f"kind={name!r} ({KINDS[name]})" for name in fitting)
        raise WeightsError(
            f'its kind is ambiguous, because these have the same tensors: give {names}; in a preset "{fitting[0]}:PATH"'
        )
    return fitting[0]


def _only_weights(folder: Path) -> Path:
    """The only weight file of a folder; raises WeightsError if there are none or several."""
    files = [f for f in sorted(folder.iterdir()) if f.is_file() and f.suffix in (*WEIGHTS, "") and f.name not in _OTHER]
    if len(files) != 1:
        names = ", ".join(f.name for f in files) or "none"
        raise WeightsError(f"a folder must hold one weight file, and this one holds {names}")
    return files[0]


def _open_file(path: Path) -> tuple[Mapping[str, Tensor], Mapping[str, Any] | None]:
    """The tensors of a weight file, and its constructor arguments or None; the first bytes determine the format."""
    with open_file(path) as file:
        head = file.read(16)
    if not head:
        raise WeightsError("it is empty")
    if head.startswith((b"PK\x03\x04", _LEGACY_TORCH)):
        return read_torch(path), None
    if head[8:9] == b"{":
        return read_safetensors(path), None
    if (head[0] == 0x80 and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")) or path.suffix in _PICKLES:
        arguments, state = read_pickle(path)
        return state, arguments
    if head[0] in (*range(0x80, 0x90), 0xDE, 0xDF):  # a msgpack map
        return read_flax(path), None
    raise WeightsError("it is no safetensors, torch, pickle or msgpack file")


def label_number(label: str | None, classes: int | None) -> int | None:
    """A label as the number of a class, or MEAN_LABEL; raises WeightsError if the network has no such class."""
    if label is None:
        return None
    if classes is None:
        raise WeightsError(f"an unconditional network takes no label, got {label}")
    if label == "mean":
        return MEAN_LABEL
    if not label.isdecimal() or int(label) >= classes:
        raise WeightsError(f"label must be `mean` or lie between 0 and {classes - 1}, got {label}")
    return int(label)
