"""Save what is whole of a damaged results database; what is lost is counted again by the run's own command."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.database import (
    COLUMNS,
    DATABASE,
    SELECTED,
    VOTES,
    StoreError,
    add_checksums,
    checked,
    refuse_later,
    stored_manifest,
)
from bench.pages import rows_in_pages
from bench.results import MANIFEST, read_export
from bench.store import Store
from bench.types import Cell
from bench.votes import decode

KEY = 4  # columns of a block's primary key: cell, image, stage, first
DRAWS = COLUMNS.index("draws")
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Repaired:
    """What a repair found.

    Attributes:
        kept: blocks that are whole.
        damaged: blocks whose checksum, or whose votes, do not hold.
        unreadable: whether parts of the file could not be read, so that more blocks may be lost.
        backup: where the damaged file lies now; None where nothing had to be done.
    """

    kept: int
    damaged: int
    unreadable: bool
    backup: Path | None


def repair(folder: Path) -> Repaired:
    """Rewrite a run's database from its whole blocks, and keep the damaged file beside it.

    Raises:
        StoreError: there is none, a run writes to it, or neither it nor the exports say what was counted.
    """
    path = folder / DATABASE
    if not path.is_file():
        raise StoreError(f"there is no {DATABASE} in {folder}; nothing to repair")
    lock = FileLock(folder / "run.lock")
    try:
        lock.acquire(timeout=0)
        return rewrite(folder, path)
    except Timeout as error:
        raise StoreError(f"a run is writing to {folder}; wait for it") from error
    except OSError as error:
        raise StoreError(
            f"{folder} cannot be repaired ({error}); make room, or repair a copy of it elsewhere"
        ) from error
    finally:
        lock.release()


def rewrite(folder: Path, path: Path) -> Repaired:
    fresh, torn = folder / "repair", folder / "repair" / "torn"
    shutil.rmtree(fresh, ignore_errors=True)
    torn.mkdir(parents=True)
    db = sqlite3.connect(copied(path, torn))
    try:
        with suppress(sqlite3.DatabaseError):
            refuse_later(db, path)
            add_checksums(db)
        manifest, cells = facts(db, folder)
        found, unreadable = every_row(db, path)
        sound = is_sound(db)
    except StoreError:
        shutil.rmtree(fresh)
        raise
    finally:
        db.close()
    whole = [row for row in found if is_whole(row)]
    if len(whole) == len(found) and sound and not unreadable:
        shutil.rmtree(fresh)
        return Repaired(len(whole), 0, False, None)
    with Store(fresh) as store:
        store.take_over(manifest, cells, (row[:-1] for row in whole))
    backup = next(b for n in range(1, 1000) if not (b := folder / f"{DATABASE}.damaged-{n}").exists())
    for end in ("", "-wal", "-shm"):
        if (file := path.with_name(path.name + end)).exists():
            file.replace(backup.with_name(backup.name + end))
    (fresh / DATABASE).replace(path)
    shutil.rmtree(fresh)
    return Repaired(len(whole), len(found) - len(whole), unreadable, backup)


def facts(db: sqlite3.Connection, folder: Path) -> tuple[dict[str, Any], list[Row]]:
    """The manifest and the cells, from the database or, where it has lost them, from the exports."""
    try:
        manifest = stored_manifest(db, folder / DATABASE)
        if not manifest:
            raise ValueError("there is none")
        cells = db.execute("SELECT key, cell, error FROM cells").fetchall()
        return manifest, [row for row in cells if Cell.from_json(row[1]).key == row[0]]
    except (sqlite3.DatabaseError, StoreError, ValueError, TypeError) as error:
        if not (folder / MANIFEST).is_file():
            raise StoreError(
                f"{folder / DATABASE} has lost its manifest ({error}), and there is no {MANIFEST} beside it: nothing "
                "can be saved. Move it away and run again"
            ) from error
        exported, registered, _ = read_export(folder)
        return exported, registered


def every_row(db: sqlite3.Connection, path: Path) -> tuple[list[Row], bool]:
    """Every block that can be read, and whether some could not by way of SQLite; then the file's own pages are read."""
    rows: dict[Row, Row] = {}
    for order in ("", " DESC"):  # from both ends up to what is damaged
        by = ", ".join(name + order for name in COLUMNS[:KEY])
        try:
            for row in db.execute(f"SELECT {SELECTED} FROM blocks ORDER BY {by}"):
                rows[row[:KEY]] = row
        except (sqlite3.DatabaseError, ValueError):  # ValueError: text that is not text any more
            continue
        return list(rows.values()), False
    for row in rows_in_pages(path.read_bytes(), len(COLUMNS) + 1):
        if is_whole(row):
            rows.setdefault(row[:KEY], row)
    return list(rows.values()), True


def is_whole(row: Row) -> bool:
    """Whether a block's checksum holds (where it has one) and its votes add up to its draws."""
    *values, crc = row
    try:
        votes = decode(row[VOTES])
        return sum(votes) == row[DRAWS] and min(votes) >= 0 and (crc is None or checked(tuple(values))[-1] == crc)
    except (ValueError, TypeError):
        return False


def copied(path: Path, folder: Path) -> Path:
    """A copy of a database to read from, as long as its header says: of a shorter one SQLite reads nothing at all."""
    for end in ("", "-wal"):
        if (part := path.with_name(path.name + end)).exists():
            shutil.copy(part, folder / part.name)
    copy = folder / path.name
    with copy.open("r+b") as file:
        header = file.read(100)
        size = int.from_bytes(header[16:18], "big")
        pages = int.from_bytes(header[28:32], "big")
        length = file.seek(0, 2)
        file.truncate(max(length, (65536 if size == 1 else size) * pages))
    return copy


def is_sound(db: sqlite3.Connection) -> bool:
    """Whether SQLite finds the file's structure sound."""
    try:
        return bool(db.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except sqlite3.DatabaseError:
        return False


def verdict(found: Repaired) -> Iterator[str]:
    """What was found, in sentences."""
    if found.backup is None:
        yield f"the database is whole: {found.kept:,} blocks, every checksum holds"
        return
    yield f"saved {found.kept:,} blocks; the damaged file is kept as {found.backup.name}"
    if found.damaged:
        yield f"dropped {found.damaged:,} blocks whose checksum or votes do not hold"
    if found.unreadable:
        yield "parts of the file could not be read; their blocks are lost"
    yield "the run's own command counts again what is missing"
