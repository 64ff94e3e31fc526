"""Ship the files of a run to other machines: networks, classifiers, and plugins named by path.

A file set holds the fingerprints of some files and handles of their contents. A machine that has the same files at the
same path uses them. Any other machine writes them once, into a private folder named after the contents.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from bench.engine import LoadError
from bench.plugins import plugin_modules
from bench.plugins import registry as plugins
from bench.provenance import ROOT
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import fingerprint
from purifiers.nets.hub.sources import Source, find

_KINDS = {kind.name: kind for kind in (plugins.PURIFIER, plugins.CLASSIFIER)}
_Put = Callable[[np.ndarray], Any]  # file content `[bytes]` uint8 -> a handle that is sent instead of it
Get = Callable[[Any], np.ndarray]  # a handle -> the content


@dataclass(frozen=True)
class _FileSet:
    """Files below one folder.

    Attributes:
        root: the folder on the sender.
        hashes: path below the folder -> SHA-256.
        contents: path below the folder -> handle of the content, returned by the sender's `put`.
    """

    root: str
    hashes: Mapping[str, str]
    contents: Mapping[str, Any] = field(compare=False)

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(repr(sorted(self.hashes.items())).encode()).hexdigest()[:32]

    def unpack(self, get: Get) -> Path:
        """The folder of the files on this machine: the sender's `root` if its files are equal, else a private folder.

        Raises:
            OSError: the files cannot be written, or the private folder is open to other users.
        """
        if _has_files(Path(self.root), self.hashes):
            return Path(self.root)
        folder = _private_folder() / self.digest
        with FileLock(folder.with_suffix(".lock")):
            # Also when it was unpacked before: systems delete old files below temporary folders.
            if not _has_files(folder, self.hashes):
                part = folder.with_suffix(".part")
                for remains in (folder, part):
                    shutil.rmtree(remains, ignore_errors=True)
                for name, content in self.contents.items():
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    get(content).tofile(part / name)
                part.rename(folder)
        return folder


def _pack(root: Path, files: Iterable[Path], put: _Put) -> _FileSet:
    """The file set of some files below a folder."""
    by_name = {file.relative_to(root).as_posix(): file for file in files}
    fingerprints = {name: fingerprint(file) for name, file in by_name.items()}
    return _FileSet(str(root), fingerprints, {name: put(np.fromfile(file, np.uint8)) for name, file in by_name.items()})


def _has_files(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether a folder has all these files with these SHA-256."""
    return all((folder / name).is_file() and fingerprint(folder / name) == digest for name, digest in files.items())


def _private_folder() -> Path:
    """The folder for unpacked file sets: below this machine's temporary folder, accessible to this user alone.

    Raises:
        PermissionError: the folder is open to other users, who could put code into it.
    """
    folder = Path(tempfile.gettempdir()) / f"purifybench-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()  # a link to a folder of the same user is no private folder
    if not folder.is_dir() or folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is open to other users; remove it, or set TMPDIR to a folder of your own")
    return folder


def _with_cards(files: Iterable[Path]) -> list[Path]:
    """Weight files and the cards (`.json`) beside them."""
    weights = list(files)
    cards = [card for file in weights if (card := file.with_suffix(".json")).is_file() and card not in weights]
    return weights + cards


@dataclass(frozen=True)
class Bundle:
    """All files that an engine needs, except code and libraries.

    Attributes:
        networks: role -> the network and its files.
        plugins: kind -> plugin name -> file name and files, for plugins named by path.
        classifiers: of each, name, parameters and files (None: it has no files).
    """

    networks: Mapping[str, tuple[Source, _FileSet]]
    plugins: Mapping[str, Mapping[str, tuple[str, _FileSet]]]
    classifiers: Sequence[tuple[str, Mapping[str, object], _FileSet | None]]

    @classmethod
    def of(
        cls,
        weights: Mapping[str, str],
        plugin_files: Mapping[str, Mapping[str, str]],
        classifiers: Iterable[tuple[str, Mapping[str, object]]],
        put: _Put,
    ) -> Bundle:
        """Pack networks by role, plugin files by kind and name, and the files of classifiers: name and parameters."""
        packed = {
            kind: {name: _pack_plugin(_KINDS[kind], Path(file), put) for name, file in files.items()}
            for kind, files in plugin_files.items()
        }
        named = plugin_files.get(plugins.CLASSIFIER.name, {})
        networks = {role: _pack_network(find(text), put) for role, text in weights.items()}
        voters = [(name, own, _pack_classifier(named.get(name, name), own, put)) for name, own in classifiers]
        return cls(networks, packed, voters)

    def unpack(self, get: Get) -> tuple[dict[str, str], dict[str, dict[str, str]], dict[str, Mapping[str, object]]]:
        """Networks by role, plugin files by kind and name, and the parameters of classifiers that change here.

        The latter by `classifier_key`.

        Raises:
            LoadError: no parameter of the classifier accepts the path of its files.
            OSError: the files cannot be written.
        """
        weights = {}
        for role, (source, files) in self.networks.items():
            folder = files.unpack(get)
            single = source.path.name in files.hashes
            weights[role] = str(replace(source, path=folder / source.path.name if single else folder))
        plugin_files = {
            kind: {name: str(files.unpack(get) / file) for name, (file, files) in by_name.items()}
            for kind, by_name in self.plugins.items()
        }
        named = plugin_files.get(plugins.CLASSIFIER.name, {})
        changed = {}
        for name, parameters, listed in self.classifiers:
            own = {} if listed is None else _relocated_parameters(named.get(name, name), parameters, listed, get)
            if own:
                changed[classifier_key(name, parameters)] = own
        return weights, plugin_files, changed


def classifier_key(name: str, parameters: Mapping[str, object]) -> str:
    """A text for each classifier, whatever its precision, which is settled after the files are packed."""
    return json.dumps([name, {k: v for k, v in parameters.items() if k != "precision"}], sort_keys=True)


def _pack_network(source: Source, put: _Put) -> tuple[Source, _FileSet]:
    folder = source.path.parent if source.path.is_file() else source.path
    return source, _pack(folder, _with_cards(source.files()), put)


def _pack_plugin(kind: plugins.Kind, file: Path, put: _Put) -> tuple[str, _FileSet]:
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
    return file.name, _pack(folder, own, put)


def _pack_classifier(plugin: str, parameters: Mapping[str, object], put: _Put) -> _FileSet | None:
    """The files that a classifier lists, below a folder that one of its parameters names or below their common one."""
    files = [file.absolute() for file in plugins.create(plugins.CLASSIFIER, plugin, parameters).files()]
    if not files:
        return None
    files = _with_cards(files)
    folders = [Path(value).expanduser().absolute() for value in parameters.values() if isinstance(value, str)]
    common = Path(os.path.commonpath([file.parent for file in files]))
    root = next((f for f in folders if f.is_dir() and all(file.is_relative_to(f) for file in files)), common)
    return _pack(root, files, put)


def _relocated_parameters(
    plugin: str, parameters: Mapping[str, object], files: _FileSet, get: Get
) -> Mapping[str, object]:
    """The parameters of a classifier that must change so that it finds its files on this machine; empty if none.

    Only the plugin knows which parameter names its files. So the parameters are tried unchanged first; then each text
    parameter in turn is replaced by the unpacked folder or by a file in it. A trial succeeds when the plugin lists
    files with the fingerprints of the sender's.

    Raises:
        LoadError: no trial succeeds.
    """
    expected = sorted(files.hashes.values())

    def finds_files(trial: Mapping[str, object]) -> bool:
        try:
            listed = plugins.create(plugins.CLASSIFIER, plugin, trial).files(download=False)
            return sorted(fingerprint(file) for file in _with_cards(listed)) == expected
        except (ClassifierError, plugins.PluginError, OSError):
            return False

    if finds_files(parameters):
        return {}
    folder = files.unpack(get)
    paths = [folder, *(folder / name for name in files.hashes)]
    text_parameters = [key for key, value in parameters.items() if isinstance(value, str)]
    for changed in ({key: str(path)} for key in text_parameters for path in paths):
        if finds_files({**parameters, **changed}):
            return changed
    raise LoadError(
        f"classifier {plugin!r} does not find its files ({', '.join(files.hashes)}), and none of its parameters "
        f"accepts their path on this machine, {folder}; put them on every machine at {files.root}"
    )
