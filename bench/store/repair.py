"""Repair a damaged results database: keep the whole blocks. The run's own command counts the others again."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.store import database
from bench.store.database import COLUMNS, DATABASE, SELECTED, StoreError
from bench.store.run import MANIFEST
from bench.store.store import Store

_KEY = COLUMNS[:4]  # cell, image, stage, first draw
_Row = tuple[Any, ...]


@dataclass
class _Repaired:
    """The result of a repair.

    Attributes:
        kept: number of blocks in the database afterwards.
        damaged: number of blocks that were dropped because their checksum or their votes do not hold.
        unreadable: whether SQLite could not read all of the file, so that an unknown number of blocks may be lost.
        backup: path of the damaged file; None if the database is whole and was left as it is.
        described: whether the manifest is known; if not, the run's own command writes it again.
    """

    kept: int = 0
    damaged: int = 0
    unreadable: bool = False
    backup: Path | None = None
    described: bool = True


def repair(folder: Path) -> _Repaired:
    """Write a run's database anew from its whole blocks and its exports, and keep the damaged file beside it.

    Raises:
        StoreError: there is no database, a run writes to it, it is of a later format, or nothing can be kept.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise StoreError(f"there is no {DATABASE} in {folder}; nothing to repair")
    lock = FileLock(folder / "run.lock")
    try:
        lock.acquire(timeout=0)
        if whole := _whole_database(path):
            return whole
        with tempfile.TemporaryDirectory(prefix="repair-", dir=folder) as fresh:  # a name that nobody can guess
            return _rewrite(path, Path(fresh))
    except database.DAMAGE as error:  # of `refuse_schema`: nothing may be read from it
        raise StoreError(f"{path} was not written by a run ({error}); move it away and run again") from error
    except Timeout as error:
        raise StoreError(f"a run is writing to {folder}; wait for it") from error
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be repaired ({error}); make room, or repair a copy of it elsewhere"
        ) from error
    finally:
        lock.release()


def _whole_database(path: Path) -> _Repaired | None:
    """The number of blocks of a database; None if any part of it is damaged."""
    result = _Repaired()
    try:
        with closing(database.connect(path)) as db:
            database.last_key(db.execute(database.KEYS))
            manifest, cells = _manifest_and_cells(db, path)
            (registered,) = db.execute("SELECT count(*) FROM cells").fetchone()
            result.kept = sum(1 for _ in _whole_blocks(db, path, result))
    except database.DAMAGE as error:
        _refuse_if_whole(path, error)
        return None
    damage = result.damaged or result.unreadable or not manifest or len(cells) < registered
    return None if damage else result


def _rewrite(path: Path, fresh: Path) -> _Repaired:
    """Collect everything that is whole in a new database, and put it in the place of the damaged one."""
    folder, result = path.parent, _Repaired()
    with closing(sqlite3.connect(path)) as db, Store(fresh) as store:
        with suppress(*database.DAMAGE):
            # With it SQLite reads a file that is shorter than its header says, and a schema that it finds damaged.
            db.execute("PRAGMA writable_schema = ON")
        database.refuse_schema(db)
        manifest, cells = _manifest_and_cells(db, path)
        store.fill(cells, _whole_blocks(db, path, result))
        if manifest:
            store.describe(manifest)
        if (folder / MANIFEST).is_file():
            store.restore(folder)
        result.kept, result.described = store.size(), bool(store.manifest())
    if not result.kept and not result.described:
        raise StoreError(f"{path} has no block and no manifest that can be read; move it away and run again")
    result.backup = next(b for n in range(1, 1000) if not (b := folder / f"{DATABASE}.damaged-{n}").exists())
    for end in ("", "-wal", "-shm"):
        if (file := path.with_name(path.name + end)).exists():
            file.replace(result.backup.with_name(result.backup.name + end))
    (fresh / DATABASE).replace(path)
    return result


def _manifest_and_cells(db: sqlite3.Connection, path: Path) -> tuple[dict[str, Any], list[_Row]]:
    """The manifest, empty if it is damaged, and the rows of the whole cells."""
    manifest: dict[str, Any] = {}
    cells: list[_Row] = []
    with suppress(*database.DAMAGE, StoreError):
        manifest = database.stored_manifest(db, path)
    with suppress(*database.DAMAGE):
        cells = [row for row in db.execute("SELECT key, cell, error FROM cells") if database.is_cell(row)]
    return manifest, cells


def _whole_blocks(db: sqlite3.Connection, path: Path, result: _Repaired) -> Iterator[_Row]:
    """Rows (`COLUMNS`) of the whole blocks; notes in `result` whether some are damaged or unreadable.

    They come in ascending order up to the first unreadable page, then in descending order up to it.
    """
    dropped = set()
    for order in ("", " DESC"):
        by = ", ".join(name + order for name in _KEY)
        try:
            for row in db.execute(f"SELECT {SELECTED} FROM blocks ORDER BY {by}"):
                votes: list[list[int]] = []
                with suppress(StoreError):
                    votes = database.votes_of([row], path)
                if any(votes):
                    yield row[:-1]
                else:
                    dropped.add(row[: len(_KEY)])
                    result.damaged = len(dropped)
            return
        except database.DAMAGE as error:
            _refuse_if_whole(path, error)
            result.unreadable = True


def _refuse_if_whole(path: Path, error: Exception) -> None:
    """Raise StoreError for a refusal by the operating system: the file itself may be whole."""
    if database.primary(error) in database.REMEDIES:
        raise database.damaged(path, error) from error


def verdict(repaired: _Repaired) -> Iterator[str]:
    """The result in sentences."""
    if repaired.backup is None:
        yield f"the database is whole: {repaired.kept:,} blocks, every checksum holds"
        return
    yield f"kept {repaired.kept:,} blocks; the damaged file is now {repaired.backup.name}"
    if repaired.damaged:
        yield f"dropped {repaired.damaged:,} blocks whose checksum or votes do not hold"
    if repaired.unreadable:
        yield "SQLite could not read all of the file, so other blocks may be lost"
    if not repaired.described:
        yield "the manifest is lost: no command reads these blocks before the run's own command has written it again"
    yield "the run's own command counts the missing blocks again"
