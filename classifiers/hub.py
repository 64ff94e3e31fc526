"""Files of models on the Hugging Face hub: from a folder, from the hub's cache, or downloaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from classifiers.base import ClassifierError

_FOLDER = "PURIFYBENCH_CLASSIFIERS"  # environment variable: folder of manual downloads, instead of the user's cache


def brief(error: Exception) -> str:
    """Type and first line of an error of a library."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"


def by_hand(name: str) -> Path:
    """Path of the manual download of a classifier, a file or a folder."""
    folder = os.environ.get(_FOLDER)
    root = Path(folder) if folder else user_cache_path("purifybench", appauthor=False) / "classifiers"
    return root / name.replace("/", "--")


def model_files(
    source: str, wanted: Sequence[Sequence[str]], download: bool = True, size: int | None = None
) -> tuple[Path, ...]:
    """The files of a model: of each group of names the first that exists.

    `source` is a folder, or a hub id such as `google/vit-base-patch16-224` (`id@revision` for another revision than the
    newest). A hub id is searched for among manual downloads (see `by_hand`), then in the hub's cache, then on the hub.

    Parameters:
        wanted: groups of alternative names, in order of preference.
        size: bytes of the weights, if known.

    Raises:
        ClassifierError: files are missing and cannot be downloaded; the message names them and their folder.
    """
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    for folder in (Path(source).expanduser(), by_hand(source)):
        if folder.is_dir():
            if lacking := [group for group in wanted if _first(folder, group) is None]:
                raise ClassifierError(f"{folder} lacks {_names(lacking)}; put the files of {source} there")
            return _pick(folder, wanted)
    if source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise ClassifierError(f"{source} is not a folder; give one that holds {_names(wanted)}, or a hub id")
    try:
        if ".." in source:  # a revision is a path in the cache
            raise HFValidationError("'..' is in it")
        with suppress(LocalEntryNotFoundError):
            if files := _fetch(source, wanted, local=True):
                return files
    except HFValidationError as error:
        raise ClassifierError(f"{source!r} is neither a folder nor a hub id, ORGANISATION/NAME ({error})") from error
    if not download:
        raise ClassifierError(_advice(source, wanted, size), True, size)
    try:
        files = _fetch(source, wanted)
    except Exception as error:  # the library raises many types of errors, all with the same remedy
        raise ClassifierError(f"{_advice(source, wanted, size)} (the hub said {brief(error)})", True, size) from error
    if not files:
        raise ClassifierError(f"{source} on the hub lacks one of {_names(wanted)}; choose another model")
    return files


def _fetch(source: str, wanted: Sequence[Sequence[str]], local: bool = False) -> tuple[Path, ...]:
    """Files of a model from the hub, or from its cache (`local`), as `_pick`; later names of a group only if needed."""
    from huggingface_hub import snapshot_download

    repository, _, revision = source.partition("@")
    options: dict[str, Any] = {"revision": revision or None, "local_files_only": local}
    folder: Path | None = None
    for depth in range(max(map(len, wanted))):
        missing = [g[depth] for g in wanted if depth < len(g) and not (folder and _first(folder, g))]
        if missing:
            folder = Path(snapshot_download(repository, allow_patterns=missing, **options))
    return _pick(folder, wanted) if folder else ()


def _first(folder: Path, group: Sequence[str]) -> Path | None:
    return next((folder / name for name in group if (folder / name).is_file()), None)


def _pick(folder: Path, wanted: Sequence[Sequence[str]]) -> tuple[Path, ...]:
    """Of each group of names the first file that exists; empty if a group has none."""
    files = [file for group in wanted if (file := _first(folder, group))]
    return tuple(files) if len(files) == len(wanted) else ()


def _names(wanted: Sequence[Sequence[str]]) -> str:
    return ", ".join(" or ".join(group) for group in wanted)


def _advice(source: str, wanted: Sequence[Sequence[str]], size: int | None) -> str:
    """Instructions for the manual download of a model."""
    repository, _, revision = source.partition("@")
    how_much = f" (about {size / 1e6:.0f} MB)" if size else ""
    at = f" --revision {revision}" if revision else ""
    files = " ".join(group[0] for group in wanted)
    return (
        f"{source} is missing{how_much}. On a machine with a connection, `hf download {repository}{at} {files} "
        f"--local-dir FOLDER` fetches {_names(wanted)}; put FOLDER at {by_hand(source)}, or give its path instead of "
        "the id. The hub shows each file's SHA-256 on its page"
    )


def require(library: str) -> None:
    """Raise ClassifierError if an optional library is not installed; the extra of the same name installs it."""
    if find_spec(library) is None:
        raise ClassifierError(f"{library} is not installed; pip install purifybench[{library}]", True)
