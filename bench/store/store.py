"""The database of a run in progress. One process writes it, block by block."""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.certify import Tally
from bench.files import make_folder
from bench.records import Block, Cell, Cost, Counts
from bench.store import database
from bench.store.database import COLUMNS, DATABASE, SECONDS, SELECTED, StoreError
from bench.store.run import MANIFEST, read_export
from bench.store.votes import encode

_SYNC_S = 1.0  # shortest time between two syncs of the write-ahead log


class Store:
    """The database of a run in progress, with a lock against a second writer.

    Stored blocks survive the death of the process at once, and a power cut once the write-ahead log is synced. A sync
    takes milliseconds, longer than a batch of a fast network, so at most one batch per second is synced.

    A folder with exports and an empty or missing database is continued from the exports.

    Raises:
        StoreError: another run holds the folder, or the database is damaged or of another format.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._synced = float("-inf")
        path = folder / DATABASE
        try:
            make_folder(folder)
            self._lock = FileLock(folder / "run.lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"another run is writing to {folder}; wait for it, or give another --out") from error
        except OSError as error:
            raise StoreError(f"{folder} cannot be written ({error}); give another --out") from error
        try:
            self._db = database.connect(path)
            if path.stat().st_size:
                database.last_key(self._db.execute(database.KEYS))
            self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
            self._db.executescript(f"BEGIN; {database.SCHEMA} COMMIT;")
            self._identity = _identity(path)
            if (folder / MANIFEST).is_file() and not self.manifest():
                self.restore(folder)
        except (*database.DAMAGE, StoreError) as error:
            self._lock.release()
            raise error if isinstance(error, StoreError) else database.damaged(path, error) from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()
        self._lock.release()

    def restore(self, folder: Path) -> None:
        """Add the exports of a folder: all blocks and cells that are missing here, and a missing manifest."""
        manifest, registered, blocks = read_export(folder)
        votes = blocks["votes"].map(lambda v: encode([int(k) for k in v]))
        rows = blocks.assign(votes=votes).astype(dict.fromkeys(SECONDS, float))[list(COLUMNS)]
        self.fill(registered, rows.astype(object).itertuples(index=False, name=None))
        self.describe(self.manifest() or manifest)

    def fill(self, cells: Iterable[tuple], blocks: Iterable[tuple]) -> None:
        """Add rows of cells and of blocks (`COLUMNS`) that are missing here."""
        with self._transaction() as db:
            db.executemany("INSERT OR IGNORE INTO cells VALUES (?, ?, ?)", cells)
            db.executemany(database.INSERT, map(database.checked, blocks))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The database in a transaction; raises StoreError if it is damaged or removed, or the disk is full."""
        self._refuse_removed()
        try:
            with self._db:
                yield self._db
        except database.DAMAGE as error:
            raise database.damaged(self.folder / DATABASE, error) from error

    def _refuse_removed(self) -> None:
        """Raise StoreError if the file of the open database is no longer in the folder: what is written would be lost.

        The system keeps a removed file for as long as it is open, and SQLite does not notice.
        """
        path = self.folder / DATABASE
        if _identity(path) != self._identity:
            raise StoreError(
                f"{path} was removed, moved or replaced while this run was writing to it; put it back (its counts are "
                "kept if it was only moved), and the same command continues"
            )

    def begin(self, cells: Iterable[Cell], manifest: dict[str, Any]) -> None:
        """Register the cells of a sweep and its manifest, and forget the errors of earlier attempts."""
        again = "ON CONFLICT (key) DO UPDATE SET cell = excluded.cell, error = NULL"  # its label may be another one now
        register = f"INSERT INTO cells VALUES (?, ?, NULL) {again}"
        with self._transaction() as db:
            db.executemany(register, ((cell.key, cell.to_json()) for cell in cells))
        self.describe(manifest)

    def describe(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        with self._transaction() as db:
            db.execute("DELETE FROM manifest")
            text = json.dumps(manifest)
            db.execute("INSERT INTO manifest VALUES (?, ?)", (text, zlib.crc32(text.encode())))

    def add(self, counts: Iterable[Counts]) -> None:
        """Store blocks in one transaction; a block that is already stored stays unchanged."""
        rows = [
            (b.cell, b.image, b.stage, b.first, b.draws, encode(c.votes), *(getattr(c.cost, k) for k in database.COSTS))
            for c in counts
            for b in (c.block,)
        ]
        now = time.monotonic()
        due = now - self._synced >= _SYNC_S
        with self._transaction() as db:
            db.execute(f"PRAGMA synchronous = {'FULL' if due else 'NORMAL'}")
            db.executemany(database.INSERT, map(database.checked, rows))
        if due:
            self._synced = now

    def fail(self, cell: str, message: str) -> None:
        """Record the error that ended a cell."""
        with self._transaction() as db:
            db.execute("UPDATE cells SET error = ? WHERE key = ?", (message, cell))

    def manifest(self) -> dict[str, Any]:
        """The manifest; empty before a run has begun."""
        with self._transaction() as db:
            return database.stored_manifest(db, self.folder / DATABASE)

    def select(self, query: str, *values: Any) -> list[tuple]:
        """The rows of an SQL query."""
        with self._transaction() as db:
            return db.execute(query, values).fetchall()

    def size(self) -> int:
        """Number of stored blocks."""
        return int(self.select("SELECT count(*) FROM blocks")[0][0])

    def cells(self) -> list[Cell]:
        """Every readable cell with stored blocks, of this sweep and of earlier ones."""
        cells = []
        for (text,) in self.select("SELECT cell FROM cells WHERE key IN (SELECT DISTINCT cell FROM blocks)"):
            with suppress(TypeError, ValueError):  # a cell of another version cannot be part of this sweep
                cells.append(Cell.from_json(text))
        return cells

    def draws(self, cell: str) -> int:
        """Number of stored draws of a cell."""
        return int(self.select("SELECT coalesce(sum(draws), 0) FROM blocks WHERE cell = ?", cell)[0][0])

    def blocks(self, cell: str) -> Iterator[Counts]:
        """The stored counts of a cell. They are read as the iterator advances, so store nothing meanwhile."""
        path = self.folder / DATABASE
        with self._transaction() as db:
            for row in db.execute(f"SELECT {SELECTED} FROM blocks WHERE cell = ?", (cell,)):
                values = dict(zip(COLUMNS, row, strict=False))
                block = Block(*(values[name] for name in ("cell", "image", "stage", "first", "draws")))
                cost = Cost(**{name: values[name] for name in database.COSTS})
                yield Counts(block, tuple(database.votes_of([row], path)[0]), cost)

    def tallies(self, cell: str) -> Mapping[int, Tally]:
        """The counts of each image of a cell, read from the database at each access."""
        return _StoredTallies(self, cell)


@dataclass(frozen=True, eq=False)
class _StoredTallies(Mapping[int, Tally]):
    """The stored counts of a cell by image. Nothing is cached: the votes of all images may take gigabytes."""

    store: Store
    cell: str

    def __getitem__(self, image: int) -> Tally:
        path, tally = self.store.folder / DATABASE, Tally({}, {})
        rows = self.store.select(f"SELECT {SELECTED} FROM blocks WHERE cell = ? AND image = ?", self.cell, image)
        if not rows:
            raise KeyError(image)
        for (_, _, stage, first, *_), votes in zip(rows, database.votes_of(rows, path), strict=True):
            getattr(tally, stage)[first] = tuple(votes)
        return tally

    def __iter__(self) -> Iterator[int]:
        return (image for (image,) in self.store.select("SELECT DISTINCT image FROM blocks WHERE cell = ?", self.cell))

    def __len__(self) -> int:
        return len(list(iter(self)))


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of a file; None if there is none."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino
