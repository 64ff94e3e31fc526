"""The database file of a run: its tables, its checksums, and the messages for a file that cannot be used."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.errors import PurifyBenchError
from bench.files import MOST_TEXT, TooLarge, most_values, parse_json
from bench.records import key_of
from bench.store.votes import decode

_FORMAT = 3  # formats 1 and 2 were never released
_LATER = 3  # formats 4 to 6 may be later ones; a single flipped bit turns 3 into 1, 2, 7, 11, 19, ... and is damage
DATABASE = "run.sqlite"
_JOURNALED = 2  # read and write version in the header of a database with a write-ahead log, the highest that exists
COSTS = ("nfe", "classifier_rows", "noise_s", "purify_s", "classify_s", "peak_bytes", "device")
COLUMNS = ("cell", "image", "stage", "first", "draws", "votes", *COSTS)
_VOTES = COLUMNS.index("votes")
_KEY = 4  # leading columns that identify a block
SECONDS = tuple(name for name in COSTS if name.endswith("_s"))
INTEGERS = ("image", "first", "draws", "nfe", "classifier_rows", "peak_bytes")
_TYPES = tuple(float if name in SECONDS else int if name in INTEGERS else str for name in COLUMNS)
SCHEMA = Path(__file__).with_name("schema.sql").read_text() + f"PRAGMA user_version = {_FORMAT};"
_TRIGGER = next(line for line in SCHEMA.splitlines() if "TRIGGER" in line).replace("IF NOT EXISTS ", "").rstrip(";")
SELECTED = ", ".join((*COLUMNS, "crc"))
KEYS = f"SELECT {', '.join(COLUMNS[:_KEY])} FROM blocks"
_TABLES = {"manifest": "json, crc", "cells": "key, cell, error", "blocks": SELECTED}
INSERT = f"INSERT OR IGNORE INTO blocks VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
DAMAGE = (sqlite3.DatabaseError, UnicodeDecodeError)  # a damaged schema may hold names that are not UTF-8
_UNWRITABLE = "cannot be written ({error}); make it writable, or give another --out"
REMEDIES = {  # by SQLite's primary error code; every other code means damage
    sqlite3.SQLITE_FULL: "cannot be written ({error}); make room, and the same command continues",
    sqlite3.SQLITE_IOERR: "cannot be read or written ({error}); check its disk, and the same command continues",
    sqlite3.SQLITE_READONLY: _UNWRITABLE,
    sqlite3.SQLITE_PERM: _UNWRITABLE,
    sqlite3.SQLITE_CANTOPEN: "cannot be opened ({error}); allow reading its folder and its files",
    sqlite3.SQLITE_BUSY: "is in use by another program ({error}); close that, and the same command continues",
}


class StoreError(PurifyBenchError):
    """A results folder cannot be read or written; the message names the file and the remedy."""


def connect(path: Path, uri: str | None = None) -> sqlite3.Connection:
    """Open a database that is empty or a whole one of this format.

    A damaged write-ahead log is no damage of the database: SQLite silently ignores its transactions from the first
    damaged page on (https://www.sqlite.org/fileformat2.html, section 4). Counts are deterministic, so the run counts
    those blocks again.

    Raises:
        StoreError: it is of a later format.
        sqlite3.DatabaseError, UnicodeDecodeError: its structure is damaged, or its tables are not those of a run.
    """
    _refuse_header(path)
    db = sqlite3.connect(uri or path, timeout=30, uri=uri is not None)
    try:
        db.execute("PRAGMA trusted_schema = OFF")  # the file may be a stranger's: its schema must call no functions
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_TEXT)
        refuse_schema(db)
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_master")}
        triggers = [sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE type = 'trigger'")]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if _FORMAT < version <= _FORMAT + _LATER:
            raise later_format(path, version, _FORMAT)
        if (problem := db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(problem.replace("\n", " "))
        if names or version:
            if version != _FORMAT:
                raise sqlite3.DatabaseError(f"its format is {version}, this version reads {_FORMAT}")
            for table, columns in _TABLES.items():
                db.execute(f"SELECT {columns} FROM {table} LIMIT 0")
            if triggers != ([_TRIGGER] if "totals" in names else []):
                raise sqlite3.DatabaseError("it has another trigger than the one that counts blocks")
            if triggers:
                _refuse_lost_blocks(db)
    except BaseException:
        db.close()
        raise
    return db


def _refuse_lost_blocks(db: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError unless there are as many blocks as a trigger has counted since the first one.

    A copy of a database that was being written mixes pages of several transactions. SQLite may find its structure
    sound, although blocks are missing. Databases of earlier versions have no such number.
    """
    ((stored, counted),) = db.execute("SELECT (SELECT count(*) FROM blocks), (SELECT sum(blocks) FROM totals)")
    if stored != counted:
        raise sqlite3.DatabaseError(f"it has {stored} blocks and says {counted}: a copy made during a run, or damage")


def last_key(rows: Iterable[tuple[Any, ...]], before: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    """The key of the last of some rows of blocks, which the table returns in the order of their keys.

    In a damaged index SQLite may not find a stored block, and a continued run then stores it twice.

    Parameters:
        rows: they begin with the key: cell, image, stage, first draw.
        before: the key of the row before them.

    Raises:
        sqlite3.DatabaseError: a key is not above the one before it.
    """
    for row in rows:
        key = row[:_KEY]
        try:
            above = before < key
        except TypeError:  # a number became a text, or the reverse
            above = False
        if not above:
            raise sqlite3.DatabaseError(f"block {key} follows block {before}")
        before = key
    return before


def _refuse_header(path: Path) -> None:
    """Raise sqlite3.DatabaseError for damage in the header that SQLite takes for a read-only file."""
    with suppress(OSError), path.open("rb") as file:  # SQLite itself reports a file that cannot be opened
        if any(version > _JOURNALED for version in file.read(20)[18:]):
            raise sqlite3.DatabaseError("its header is not one of SQLite's")


def refuse_schema(db: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError for a view, another trigger or computed columns, which may never end."""
    computed = "type NOT IN ('table', 'index') OR sql LIKE '% AS %' OR sql LIKE '%VIRTUAL%'"
    for (name,) in db.execute(f"SELECT name FROM sqlite_master WHERE ({computed}) AND sql != ?", [_TRIGGER]):
        raise sqlite3.DatabaseError(f"{name} is no table of a run")


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection for reading that also works in a read-only folder or on a read-only medium.

    SQLite needs an index of the write-ahead log and cannot create one there. A database that was closed has no log and
    is opened as immutable; a database that a killed run left with a log is read from a copy of both.

    Raises:
        StoreError: the database is damaged, of a later format, or cannot be opened.
    """
    if not path.is_file():  # SQLite would make the file to which a dangling link leads
        raise StoreError(f"{path} is no file; remove it, and the exports beside it are read")
    try:
        with ExitStack() as opened:
            db = _readable(path, opened)
            opened.callback(db.close)
            yield db
    except DAMAGE as error:
        raise damaged(path, error) from error


def _readable(path: Path, opened: ExitStack) -> sqlite3.Connection:
    """A connection that can read; raises sqlite3.OperationalError or OSError if there is no way to read."""
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
    """A row of blocks (`COLUMNS`) as the database returns it, followed by the CRC-32 of its values."""
    values = tuple(kind(value) for kind, value in zip(_TYPES, row, strict=True))
    return *values, zlib.crc32(repr(values).encode())


def is_cell(row: tuple[Any, ...]) -> bool:
    """Whether the key of a row of cells is the key of its cell."""
    try:
        return key_of(parse_json(row[1])) == row[0]
    except (ValueError, TypeError, AttributeError):
        return False


def votes_of(rows: list[tuple[Any, ...]], path: Path, held: int = 0) -> list[list[int]]:
    """Votes of all classes for each row of blocks.

    SQLite notices damage to the structure of its file, not to the values in it.

    Parameters:
        held: votes that are in memory already.

    Raises:
        StoreError: a checksum does not hold, or a text is not one that `encode` writes. Only a file that somebody
            edited and gave new checksums holds such a text.
    """
    try:
        for row in rows:
            if zlib.crc32(repr(row[:-1]).encode()) != row[-1]:
                raise ValueError(f"a block of image {row[1]} is damaged")
        return decode([row[_VOTES] for row in rows], most_values() - held)
    except TooLarge as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    except ValueError as error:
        raise StoreError(f"{path}: {error}; `bench doctor --repair {path.parent}` keeps the other blocks") from error


def stored_manifest(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """The manifest of a database, empty if no run has begun; raises StoreError if its checksum does not hold."""
    rows = db.execute("SELECT json, crc FROM manifest").fetchall()
    if not rows:
        return {}
    try:
        manifest = parse_json(rows[0][0])
        if rows[0][1] == zlib.crc32(rows[0][0].encode()) and isinstance(manifest, dict):
            return manifest
    except (ValueError, TypeError, AttributeError):
        pass
    raise StoreError(f"{path}: the manifest is damaged; `bench doctor --repair {path.parent}` keeps the blocks")


def later_format(path: Path, version: int, known: int) -> StoreError:
    """The refusal of a file of a later version."""
    return StoreError(f"{path} is of format {version}, this version reads format {known}; update purifybench")


def primary(error: Exception) -> int:
    """SQLite's primary error code; 0 if the error has none."""
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def damaged(path: Path, error: Exception) -> StoreError:
    """The refusal that fits an error of SQLite: a refusal by the operating system is not called damage."""
    if primary(error) in REMEDIES:
        return StoreError(f"{path} {REMEDIES[primary(error)].format(error=error)}")
    remedy = f"`bench doctor --repair {path.parent}` keeps the blocks that are whole"
    return StoreError(f"{path} is damaged or no results database ({error}); {remedy}")
