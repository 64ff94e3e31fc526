"""Files as they travel to other machines: networks, classifiers, and plugins that were given by path.

A parcel is what some files hold, and their fingerprints. A machine that has the same files at the same place uses them
there; any other writes them once, into a folder of its own that is named after their content.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bench.engine.engine import LoadError
from bench.plugins import registry as plugins
from bench.plugins.fingerprint import plugin_modules
from bench.provenance import ROOT
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import fingerprint
from purifiers.nets.hub.sources import Source, find

KINDS = {kind.name: kind for kind in (plugins.PURIFIER, plugins.CLASSIFIER)}
Put = Callable[[np.ndarray], Any]  # content `[bytes]` uint8 -> what travels instead of it
Get = Callable[[Any], np.ndarray]  # and back


@dataclass(frozen=True)
class Parcel:
    """Some files below one folder.

    Attributes:
        root: that folder, where the sender has it.
        files: name below the folder -> SHA-256.
        contents: name below the folder -> what the sender's `put` gave for the content.
    """

    root: str
    files: Mapping[str, str]
    contents: Mapping[str, Any] = field(compare=False)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(repr(sorted(self.files.items())).encode()).hexdigest()[:32]

    def unpack(self, get: Get) -> Path:
        """The folder on this machine that holds the files.

        Raises:
            OSError: they cannot be written, or not kept from other users.
        """
        if holds(Path(self.root), self.files):
            return Path(self.root)
        folder = private_folder() / self.digest
        with FileLock(folder.with_suffix(".lock")):
            if not holds(folder, self.files):  # never unpacked, or thinned out by what cleans temporary folders
                shutil.rmtree(folder, ignore_errors=True)
                part = folder.with_suffix(".part")
                shutil.rmtree(part, ignore_errors=True)
                for name, content in self.contents.items():
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    get(content).tofile(part / name)
                part.rename(folder)
        return folder


def pack(root: Path, files: Iterable[Path], put: Put) -> Parcel:
    """The files of a folder, ready to travel."""
    named = {file.relative_to(root).as_posix(): file for file in files}
    fingerprints = {name: fingerprint(file) for name, file in named.items()}
    return Parcel(str(root), fingerprints, {name: put(np.fromfile(file, np.uint8)) for name, file in named.items()})


def holds(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether a folder has all these files, with this content."""
    return all((folder / name).is_file() and fingerprint(folder / name) == digest for name, digest in files.items())


def private_folder() -> Path:
    """Where parcels are unpacked: below the temporary folder of this machine, for this user alone.

    Raises:
        PermissionError: another user made it first, and could put code into it.
    """
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"purifybench-{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o077):
        raise PermissionError(f"{folder} is open to other users; remove it, or set TMPDIR to a folder of your own")
    return folder


def with_cards(files: Iterable[Path]) -> list[Path]:
    """Weight files, and the cards that lie beside them."""
    given = list(files)
    cards = [card for file in given if (card := file.with_suffix(".json")).is_file() and card not in given]
    return given + cards


@dataclass(frozen=True)
class Luggage:
    """Everything on disk that an engine needs, besides the code and the libraries.

    Attributes:
        networks: role -> the network, and its parcel.
        plugins: kind -> plugin name -> file name and parcel, of those that are given by path.
        classifier: name, parameters and parcel (None: it has no files).
    """

    networks: Mapping[str, tuple[Source, Parcel]]
    plugins: Mapping[str, Mapping[str, tuple[str, Parcel]]]
    classifier: tuple[str, Mapping[str, object], Parcel | None]

    @classmethod
    def of(
        cls,
        weights: Mapping[str, str],
        plugin_files: Mapping[str, Mapping[str, str]],
        classifier: str,
        parameters: Mapping[str, object],
        put: Put,
    ) -> Luggage:
        """Pack what an engine is given by path: networks by role, plugins by kind and name, the classifier."""
        return cls(
            {role: pack_network(find(text), put) for role, text in weights.items()},
            {
                kind: {name: pack_plugin(KINDS[kind], Path(file), put) for name, file in files.items()}
                for kind, files in plugin_files.items()
            },
            (classifier, parameters, pack_classifier(classifier, parameters, plugin_files, put)),
        )

    def unpack(self, get: Get) -> tuple[dict[str, str], dict[str, dict[str, str]], Mapping[str, object]]:
        """Networks by role, files of plugins by kind and name, and the classifier's parameters that change here.

        Raises:
            LoadError: the classifier's files cannot be named to it.
            OSError: they cannot be written.
        """
        weights = {role: network_here(source, parcel, get) for role, (source, parcel) in self.networks.items()}
        files = {
            kind: {name: str(parcel.unpack(get) / file) for name, (file, parcel) in named.items()}
            for kind, named in self.plugins.items()
        }
        name, parameters, parcel = self.classifier
        if parcel is None:
            return weights, files, {}
        named = files.get(plugins.CLASSIFIER.name, {}).get(name, name)
        return weights, files, relocated(named, parameters, parcel, get)


def pack_network(source: Source, put: Put) -> tuple[Source, Parcel]:
    path = source.path
    files = with_cards(source.files()) if path.is_file() else source.files()
    return source, pack(path.parent if path.is_file() else path, files, put)


def network_here(source: Source, parcel: Parcel, get: Get) -> str:
    folder = parcel.unpack(get)
    return str(replace(source, path=folder / source.path.name if source.path.name in parcel.files else folder))


def pack_plugin(kind: plugins.Kind, file: Path, put: Put) -> tuple[str, Parcel]:
    """A plugin's file with all modules that it imports, which must lie in its folder.

    Raises:
        LoadError: one of them lies elsewhere.
    """
    folder = file.resolve().parent
    modules = plugin_modules(plugins.from_path(kind, file))
    own = [path for path in modules if not path.is_relative_to(ROOT)]
    if outside := [path for path in own if not path.is_relative_to(folder)]:
        raise LoadError(
            f"{file} imports {', '.join(map(str, outside))}, which other machines do not have; put it into {folder} "
            "or install it there as a package"
        )
    return file.name, pack(folder, own, put)


def pack_classifier(
    name: str, parameters: Mapping[str, object], plugin_files: Mapping[str, Mapping[str, str]], put: Put
) -> Parcel | None:
    """The files that a classifier says it is made of, below the folder that a parameter names, or their common one."""
    named = plugin_files.get(plugins.CLASSIFIER.name, {}).get(name, name)
    files = [file.absolute() for file in plugins.create(plugins.CLASSIFIER, named, parameters).files()]
    if not files:
        return None
    files = with_cards(files)
    folders = [Path(value).expanduser().absolute() for value in parameters.values() if isinstance(value, str)]
    common = Path(os.path.commonpath([file.parent for file in files]))
    root = next((f for f in folders if f.is_dir() and all(file.is_relative_to(f) for file in files)), common)
    return pack(root, files, put)


def relocated(plugin: str, parameters: Mapping[str, object], parcel: Parcel, get: Get) -> Mapping[str, object]:
    """The parameters, of those that a classifier is given, that change for it to find its files on this machine.

    Which of them names the files is the plugin's own matter, so it is asked: with the parameters as they are, then with
    each text in turn replaced by the unpacked folder, or by a file in it. What it finds is known by its content.

    Raises:
        LoadError: it takes none of them.
    """
    wanted = sorted(parcel.files.values())

    def finds(tried: Mapping[str, object]) -> bool:
        try:
            files = plugins.create(plugins.CLASSIFIER, plugin, tried).files(download=False)
            return sorted(fingerprint(file) for file in with_cards(files)) == wanted
        except (ClassifierError, plugins.PluginError, OSError):
            return False

    if finds(parameters):
        return {}
    folder = parcel.unpack(get)
    places = [folder, *(folder / name for name in parcel.files)]
    texts = [key for key, value in parameters.items() if isinstance(value, str)]
    for moved in ({key: str(place)} for key in texts for place in places):
        if finds({**parameters, **moved}):
            return moved
    raise LoadError(
        f"classifier {plugin!r} finds none of its files ({', '.join(parcel.files)}), and takes none of its parameters "
        f"for where they were put, {folder}; put them on every machine at {parcel.root}"
    )
