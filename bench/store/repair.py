"""Repair a damaged results database: keep the whole blocks. The run's own command counts the others again."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.store.database import (
    COLUMNS,
    DAMAGE,
    DATABASE,
    REMEDIES,
    SELECTED,
    VOTES,
    StoreError,
    connect,
    damaged,
    holds,
    is_cell,
    primary,
    stored_manifest,
)
from bench.store.run import MANIFEST
from bench.store.store import Store
from bench.store.votes import decode

KEY = COLUMNS[:4]  # cell, image, stage, first draw
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Repaired:
    """The result of a repair.

    Attributes:
        kept: number of blocks in the database afterwards.
        damaged: number of blocks that were dropped because their checksum or their votes do not hold.
        unreadable: whether SQLite could not read all of the file, so that an unknown number of blocks may be lost.
        backup: path of the damaged file; None if the database is whole and was left as it is.
        described: whether the manifest is known; if not, the run's own command writes it again.
    """

    kept: int
    damaged: int
    unreadable: bool
    backup: Path | None
    described: bool = True


def repair(folder: Path) -> Repaired:
    """Write a run's database anew from its whole blocks and its exports, and keep the damaged file beside it.

    Raises:
        StoreError: there is no database, a run writes to it, it is of a later format, or nothing can be kept.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise StoreError(f"there is no {DATABASE} in {folder}; nothing to repair")
    lock = FileLock(folder / "run.lock")
    fresh = folder / "repair"
    try:
        lock.acquire(timeout=0)
        blocks = whole_database(path)
        return rewrite(folder, path, fresh) if blocks is None else Repaired(blocks, 0, False, None)
    except Timeout as error:
        raise StoreError(f"a run is writing to {folder}; wait for it") from error
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be repaired ({error}); make room, or repair a copy of it elsewhere"
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        lock.release()


def whole_database(path: Path) -> int | None:
    """The number of blocks of a database; None if any part of it is damaged."""
    try:
        with closing(connect(path)) as db:
            rows = Rows(db)
            described = bool(manifest_of(db, path)) and all(map(is_cell, db.execute("SELECT * FROM cells")))
            number = sum(1 for _ in rows.read(""))
            return number if described and not rows.damaged else None
    except DAMAGE as error:
        if primary(error) in REMEDIES:  # a refusal by the operating system: the file itself may be whole
            raise damaged(path, error) from error
        return None


def rewrite(folder: Path, path: Path, fresh: Path) -> Repaired:
    shutil.rmtree(fresh, ignore_errors=True)
    manifest: dict[str, Any] = {}
    cells: list[Row] = []
    with closing(sqlite3.connect(path)) as db, Store(fresh) as store:
        rows = Rows(db)
        with suppress(*DAMAGE):
            # With it SQLite reads a file that is shorter than its header says, and a schema that it finds damaged.
            db.execute("PRAGMA writable_schema = ON")
            cells = [row for row in db.execute("SELECT key, cell, error FROM cells") if is_cell(row)]
        with suppress(*DAMAGE):
            manifest = manifest_of(db, path)
        store.fill(cells, rows.from_both_ends())
        if manifest:
            store.describe(manifest)
        if (folder / MANIFEST).is_file():
            store.restore(folder)
        kept, manifest = store.size(), store.manifest()
    if not kept and not manifest:
        raise StoreError(f"{path} has no block and no manifest that can be read; move it away and run again")
    backup = next(b for n in range(1, 1000) if not (b := folder / f"{DATABASE}.damaged-{n}").exists())
    for end in ("", "-wal", "-shm"):
        if (file := path.with_name(path.name + end)).exists():
            file.replace(backup.with_name(backup.name + end))
    (fresh / DATABASE).replace(path)
    return Repaired(kept, len(rows.damaged), rows.unreadable, backup, bool(manifest))


def manifest_of(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """The manifest of a database; empty if its checksum does not hold."""
    try:
        return stored_manifest(db, path)
    except StoreError:
        return {}


class Rows:
    """The whole blocks of a database.

    Attributes:
        damaged: keys of the blocks that were left out because their checksum or their votes do not hold.
        unreadable: whether SQLite failed before it had read every row.
    """

    def __init__(self, db: sqlite3.Connection):
        self._db = db
        self.damaged: set[Row] = set()
        self.unreadable = False

    def from_both_ends(self) -> Iterator[Row]:
        """Rows (`COLUMNS`) in ascending order up to the first unreadable page, then in descending order up to it."""
        for order in ("", " DESC"):
            try:
                yield from self.read(order)
                return
            except DAMAGE:
                self.unreadable = True

    def read(self, order: str) -> Iterator[Row]:
        by = ", ".join(name + order for name in KEY)
        for row in self._db.execute(f"SELECT {SELECTED} FROM blocks ORDER BY {by}"):
            if holds(row) and has_votes(row):
                yield row[:-1]
            else:
                self.damaged.add(row[: len(KEY)])


def has_votes(row: Row) -> bool:
    """Whether the votes of a row of blocks can be read."""
    try:
        return bool(decode(row[VOTES]))
    except ValueError:
        return False


def verdict(repaired: Repaired) -> Iterator[str]:
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
