"""The list of a run's files with their SHA-256, in the format of `sha256sum`: damage of a listed file is noticed.

Everything that writes into the folder of a run lists its files; `sha256sum -c SHA256SUMS` checks them, too. The
database is not in the list. It changes while a run goes on, and it has checks of its own: SQLite's, a checksum for each
block and for the manifest, the number of blocks, and the key of each cell.

A checksum is no signature: who edits a file can edit the list. `bench verify` finds edits.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from bench.files import open_file, read_bytes, write_file
from bench.store.database import DATABASE, StoreError

SUMS = "SHA256SUMS"
_LINE = re.compile(r"(?P<digest>[0-9a-f]{64}) [ *](?P<name>[^\\\n]+)")
_MOST_BYTES = 1 << 20  # of a list; a run has about 50 files
_CHECKED = ContextVar("_CHECKED", default=True)
_PASSING = (SUMS, "run.lock")  # and the database, drafts and tracebacks


def listed(folder: Path) -> dict[str, str]:
    """Name relative to the folder -> SHA-256, of the files that its list names; empty if there is no list.

    Raises:
        StoreError: the list is damaged.
    """
    path = folder / SUMS
    if not path.is_file():
        return {}
    remedy = f"restore it, or `bench checksums {folder}` lists the files as they are"
    try:
        lines = [_LINE.fullmatch(line) for line in read_bytes(path, _MOST_BYTES).decode().splitlines()]
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); {remedy}") from error
    sums = {line["name"]: line["digest"] for line in lines if line is not None}
    if not lines or len(sums) < len(lines):
        raise StoreError(f"{path} is damaged: a line is not one of `sha256sum`, or a file is named twice; {remedy}")
    return sums


def refuse_changed(folder: Path, name: str) -> None:
    """Raise StoreError if a file of a folder is not the one that its list names. A file may be in no list."""
    if not _CHECKED.get():
        return
    stated, path = listed(folder).get(name), folder / name
    if stated is None:
        return
    problem = "is missing" if not path.is_file() else "" if _digest(path) == stated else "changed"
    if problem:
        raise StoreError(
            f"{path} {problem} since {SUMS} was written: restore it. If you changed it yourself, "
            f"`bench checksums {folder}` lists the files as they are"
        )


def refuse_lost(folder: Path, name: str, companions: Iterable[str]) -> None:
    """Raise StoreError if a folder has lost a file: its list names it, or files are there that exist only beside it."""
    refuse_changed(folder, name)
    if beside := [companion for companion in companions if os.path.lexists(folder / companion)]:
        raise StoreError(f"{folder / name} is missing beside {', '.join(beside)}: restore it, or move these away")


def digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> SHA-256 of files as they are, if all of them are there; else nothing."""
    names = list(names)
    return {name: _digest(folder / name) for name in names} if all((folder / n).is_file() for n in names) else {}


@contextmanager
def unchecked() -> Iterator[None]:
    """Inside, files are read without a comparison with their list: `bench verify` tells all differences itself."""
    before = _CHECKED.set(False)
    try:
        yield
    finally:
        _CHECKED.reset(before)


def differences(folder: Path) -> tuple[list[str], list[str]]:
    """Files that are not those of the list of a folder, in words; and names of files that it does not name.

    Raises:
        StoreError: the list is damaged.
    """
    sums, present = listed(folder), {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    missing = [f"{name} of {SUMS} is missing" for name in sums if name not in present]
    changed = [
        f"{name} is not the file of {SUMS}" for name in sums if name in present and _digest(present[name]) != sums[name]
    ]
    return sorted(missing + changed), sorted(present.keys() - sums.keys())


def remarks(folder: Path, needed: Iterable[str], derived: Iterable[str]) -> list[str]:
    """What a reader of a run should know about its list, in sentences.

    Parameters:
        needed, derived: files that commands read: the counts, and results beside them, which may be absent.
    """
    sums, lines = listed(folder), []
    read = [name for name in (*needed, *derived) if (folder / name).is_file()]
    if unlisted := [name for name in read if name not in sums]:
        lines.append(
            f"{', '.join(unlisted)} {'is' if len(unlisted) == 1 else 'are'} not in {SUMS}, so damage may go "
            "unnoticed; `bench checksums` lists files as they are"
        )
    if missing := [name for name in derived if name in sums and name not in read]:
        lines.append(f"{', '.join(missing)} of {SUMS} {'is' if len(missing) == 1 else 'are'} missing")
    return lines


def list_files(folder: Path, names: Iterable[str] | None = None) -> int:
    """Write files of a folder into its list, and leave the lines of others as they are; returns how many it names.

    Parameters:
        names: relative to the folder; None: all files, and no others. It makes damage that is there legitimate.
    """
    every = names is None
    sums = {} if every else listed(folder)
    for name in [path.relative_to(folder).as_posix() for path in _files(folder)] if names is None else names:
        sums[name] = _digest(folder / name)
    _write(folder, sums)
    return len(sums)


def list_written(paths: Iterable[Path]) -> None:
    """List files that were just written, in the folders of runs that have a list; other folders stay as they are."""
    by_folder: dict[Path, list[str]] = {}
    for path in paths:
        home = next((parent for parent in path.parents[:2] if (parent / SUMS).is_file()), None)
        if home is not None:
            by_folder.setdefault(home, []).append(path.relative_to(home).as_posix())
    for folder, names in by_folder.items():
        list_files(folder, names)


@contextmanager
def relisted(folder: Path, *names: str, begin: bool = False) -> Iterator[None]:
    """List files of a folder that are written inside the context, if the folder has a list.

    Their lines are removed before, so that a process that is killed meanwhile leaves files that are not listed, which
    every page notes, and not files that seem to be damaged.

    Parameters:
        begin: begin a list if there is none, as those do who write the counts.
    """
    if not begin and not (folder / SUMS).is_file():
        yield
        return
    sums = listed(folder)
    if any(name in sums for name in names):
        _write(folder, {name: digest for name, digest in sums.items() if name not in names})
    yield
    list_files(folder, [name for name in names if (folder / name).is_file()])


def _files(folder: Path) -> Iterator[Path]:
    """The files of a run, also those in its subfolders, without those that change or pass."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        passing = name.name in _PASSING or name.name.startswith((DATABASE, ".")) or path.suffix in (".part", ".partial")
        if path.is_file() and not passing and name.parts[0] not in ("tracebacks", "repair"):
            yield path


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(folder: Path, sums: dict[str, str]) -> None:
    """Write the list; without any file there is none."""
    if not sums:
        (folder / SUMS).unlink(missing_ok=True)
        return
    write_file(folder / SUMS, "".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))
