"""The database file of a run: its tables, its checksums, and what to say where it cannot be used."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.errors import PurifyBenchError
from bench.records import key_of
from bench.store.journal import read_journal
from bench.store.votes import decode_all

FORMAT = 3  # 1: without checksums; 2: a number for every class, however many there are
LATER = 3  # formats after this one that are believed: one flipped bit makes 7, 11, 19, ... of 3
DATABASE = "run.sqlite"
WAL = 2  # what the header says of who may read and write; 1 is without a journal of this kind
COSTS = ("nfe", "classifier_rows", "noise_s", "purify_s", "classify_s", "peak_bytes", "device")
COLUMNS = ("cell", "image", "stage", "first", "draws", "votes", *COSTS)
VOTES = COLUMNS.index("votes")
INTEGERS = ("image", "first", "draws", "nfe", "classifier_rows", "peak_bytes")
TYPES = tuple(float if name.endswith("_s") else int if name in INTEGERS else str for name in COLUMNS)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS manifest (json TEXT NOT NULL, crc INTEGER);
CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, cell TEXT NOT NULL, error TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    cell TEXT NOT NULL REFERENCES cells, image INTEGER NOT NULL, stage TEXT NOT NULL, first INTEGER NOT NULL,
    draws INTEGER NOT NULL, votes TEXT NOT NULL, nfe INTEGER NOT NULL, classifier_rows INTEGER NOT NULL,
    noise_s REAL NOT NULL, purify_s REAL NOT NULL, classify_s REAL NOT NULL, peak_bytes INTEGER NOT NULL,
    device TEXT NOT NULL, crc INTEGER, PRIMARY KEY (cell, image, stage, first)
) WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
"""
SELECTED = ", ".join((*COLUMNS, "crc"))
READ = {"manifest": "json", "cells": "key, cell, error", "blocks": ", ".join(COLUMNS)}  # of every format
ROOTS = {"manifest": 2, "cells": 3, "blocks": 4}  # the pages where SQLite begins the tables of SCHEMA
INSERT = f"INSERT OR IGNORE INTO blocks VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # names in a damaged schema may be no text
UNWRITABLE = "cannot be written ({error}); make it writable, or give another --out"
REMEDIES = {  # by SQLite's primary error code; what is not here is damage
    sqlite3.SQLITE_FULL: "cannot be written ({error}); make room, and the same command continues",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({error}); see to its disk, and the same command continues",
    sqlite3.SQLITE_READONLY: UNWRITABLE,
    sqlite3.SQLITE_PERM: UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened ({error}); allow reading its folder and its files",
    sqlite3.SQLITE_BUSY: "is held by another program ({error}); close that, and the same command continues",
}


class StoreError(PurifyBenchError):
    """A results folder cannot be read or written; the message names the file and the remedy."""


def connect(path: Path, uri: str | None = None) -> sqlite3.Connection:
    """Open a database; raises StoreError where it is of a later format, one of DAMAGE where its tables are not ours."""
    db = sqlite3.connect(uri or path, timeout=30, uri=uri is not None)
    try:
        db.execute("PRAGMA trusted_schema = OFF")  # the file may be anybody's: its schema calls no functions
        refuse_later(db, path)
        refuse_others(db)
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A database to read from, in a read-only folder or medium, too.

    SQLite keeps an index of its journal in the folder and can make none there. A closed database has no journal and is
    read as what cannot change; one that a killed run left with a journal is read from a copy of both.

    Raises:
        StoreError: it is damaged, of a later format, or cannot be opened.
    """
    try:
        refuse_damage(path)
        with ExitStack() as opened:
            db = readable(path, opened)
            opened.callback(db.close)
            yield db
    except DAMAGE as error:
        raise damaged(path, error) from error


def readable(path: Path, opened: ExitStack) -> sqlite3.Connection:
    """A connection that can read; raises sqlite3.OperationalError or OSError where nothing can."""
    try:
        return connect(path)
    except sqlite3.OperationalError as error:
        if primary(error) not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            raise
    journal = path.with_name(f"{path.name}-wal")
    if not journal.is_file() or not journal.stat().st_size:
        return connect(path, f"{path.absolute().as_uri()}?immutable=1")
    folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="purifybench-")))
    for file in (path, journal):
        shutil.copyfile(file, folder / file.name)
    return connect(folder / path.name)


def checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of blocks as it comes back from the database, with the checksum of its values."""
    values = tuple(kind(value) for kind, value in zip(TYPES, row, strict=True))
    return *values, zlib.crc32(repr(values).encode())


def holds(row: tuple[Any, ...]) -> bool:
    """Whether the checksum of a row of blocks (its last column) holds, where it has one."""
    return row[-1] is None or zlib.crc32(repr(row[:-1]).encode()) == row[-1]


def is_cell(row: tuple[Any, ...]) -> bool:
    """Whether a row of cells has the key that its cell has."""
    try:
        return key_of(json.loads(row[1])) == row[0]
    except (ValueError, TypeError, AttributeError):
        return False


def intact(rows: list[tuple[Any, ...]], path: Path) -> list[tuple[Any, ...]]:
    """Rows of blocks whose checksums (the last column) hold; raises StoreError where one does not.

    SQLite notices damage to its own structure, not to the values that it holds.
    """
    for row in rows:
        if not holds(row):
            raise StoreError(
                f"{path}: a block of image {row[1]} is damaged; `bench doctor --repair {path.parent}` saves the others"
            )
    return rows


def votes_of(rows: list[tuple[Any, ...]], path: Path) -> list[list[int]]:
    """Votes of all classes of every row of blocks (`COLUMNS`); raises StoreError where some cannot be read.

    Checksums do not hold them all: those of format 1 have none.
    """
    try:
        return decode_all([row[VOTES] for row in rows])
    except ValueError as error:
        raise StoreError(
            f"{path}: a block's votes are damaged ({error}); `bench doctor --repair {path.parent}` saves the others"
        ) from error


def stored_manifest(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """The manifest of a database, empty where nothing has begun; raises StoreError where its checksum does not hold."""
    crc = "crc" if has_checksums(db) else "NULL"
    rows = db.execute(f"SELECT json, {crc} FROM manifest").fetchall()
    if not rows:
        return {}
    try:
        manifest = json.loads(rows[0][0])
        if rows[0][1] in (None, zlib.crc32(rows[0][0].encode())) and isinstance(manifest, dict):
            return manifest
    except (ValueError, TypeError, AttributeError):
        pass
    raise StoreError(f"{path}: the manifest is damaged; `bench doctor --repair {path.parent}` saves what is whole")


def has_checksums(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM pragma_table_info('blocks') WHERE name = 'crc'").fetchone()[0])


def add_checksums(db: sqlite3.Connection) -> None:
    """Bring a database of format 1 to this one: its blocks are trusted as they are, later ones are checked.

    One of format 2 has the same columns, and how it writes votes is read still: whoever writes gives it the number.
    """
    if db.execute("PRAGMA user_version").fetchone()[0] == 1 and not has_checksums(db):
        with db:
            for table in ("manifest", "blocks"):
                db.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER")


def refuse_later(db: sqlite3.Connection, path: Path) -> None:
    """Raise StoreError where a database is of a later format, sqlite3.DatabaseError where its format is damage."""
    db.execute("SELECT count(*) FROM sqlite_master").fetchall()  # what cannot be opened is not of a later format
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if FORMAT < version <= FORMAT + LATER:
        raise later_format(path, version, FORMAT)
    if version not in range(FORMAT + 1):
        raise sqlite3.DatabaseError(f"its format is {version}")


def refuse_damage(path: Path) -> None:
    """Raise sqlite3.DatabaseError where a file is damaged in a way of which SQLite says nothing, or something else.

    Behind a damaged page of the journal it leaves out all transactions. A run may be writing, and a journal that begins
    anew while it is read looks damaged, but not twice.
    """
    with suppress(OSError):  # SQLite says so itself
        with path.open("rb") as file:
            if any(version > WAL for version in file.read(20)[18:]):  # for SQLite the file may then be read only
                raise sqlite3.DatabaseError("its header is not one of SQLite's")
        if all(read_journal(path).damaged for _ in range(2)):
            raise sqlite3.DatabaseError("a page of its journal is damaged, and what follows is not read")


def refuse_others(db: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError where a database has tables, and not ours.

    Whoever writes would make those that are missing anew. And a table that begins elsewhere may be a part of itself.
    """
    roots = dict(db.execute("SELECT name, rootpage FROM sqlite_master"))
    if not roots:
        return
    for table, columns in READ.items():
        db.execute(f"SELECT {columns} FROM {table} LIMIT 0")
    if roots != ROOTS and db.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("its tables begin where they should not")


def later_format(path: Path, version: int, known: int) -> StoreError:
    return StoreError(f"{path} is of format {version}, this version knows up to {known}; update purifybench")


def primary(error: Exception) -> int:
    """SQLite's primary error code, 0 where it gives none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def damaged(path: Path, error: Exception) -> StoreError:
    """What to say of an error of SQLite's: what the system refuses is no damage."""
    remedy = REMEDIES.get(primary(error), "is damaged or no results database ({error})")
    if primary(error) not in REMEDIES:
        remedy += f"; `bench doctor --repair {path.parent}` saves what is whole"
    return StoreError(f"{path} {remedy.format(error=error)}")
