"""The database of a run in the making: counts in, counts out. One process writes it, block by block."""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from bench.certify.base import Tally
from bench.records import Cell, Counts
from bench.store.database import (
    COLUMNS,
    COSTS,
    DAMAGE,
    DATABASE,
    INSERT,
    SCHEMA,
    SELECTED,
    StoreError,
    add_checksums,
    checked,
    connect,
    damaged,
    intact,
    refuse_damage,
    stored_manifest,
    votes_of,
)
from bench.store.run import MANIFEST, read_export
from bench.store.votes import encode

SYNC_S = 1.0  # the journal is synced no more often


class Store:
    """The database of a run in the making: one process, one writer.

    What was added is safe from the process's death at once, and from a power cut once the journal is synced. That takes
    milliseconds, longer than a fast network's batch, so it is done with the first batch after a second without.

    Raises:
        StoreError: another run holds the folder, or the database is damaged or of a later format.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._synced = float("-inf")
        path = folder / DATABASE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = FileLock(folder / "run.lock")
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise StoreError(f"another run is writing to {folder}; wait for it, or give another --out") from error
        except OSError as error:
            raise StoreError(f"{folder} cannot be written ({error}); give another --out") from error
        try:
            known = path.is_file()
            refuse_damage(path)
            self._db = connect(path)
            add_checksums(self._db)
            self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + SCHEMA)
            if not known and (folder / MANIFEST).is_file():
                self._restore()
        except (*DAMAGE, StoreError) as error:
            self._lock.release()
            raise error if isinstance(error, StoreError) else damaged(path, error) from error

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()
        self._lock.release()

    def _restore(self) -> None:
        """Continue a run of which only the exports are there."""
        manifest, registered, blocks = read_export(self.folder)
        votes = blocks["votes"].map(lambda v: encode([int(k) for k in v]))
        seconds = {name: float for name in COSTS if name.endswith("_s")}
        rows = blocks.assign(votes=votes).astype(seconds)[list(COLUMNS)]
        self.take_over(manifest, registered, rows.astype(object).itertuples(index=False, name=None))

    def take_over(self, manifest: dict[str, Any], registered: Iterable[tuple], rows: Iterable[tuple]) -> None:
        """Fill an empty database with what is known of a run: rows of cells, and of blocks (`COLUMNS`)."""
        with self._transaction() as db:
            db.executemany("INSERT INTO cells VALUES (?, ?, ?)", registered)
            db.executemany(INSERT, map(checked, rows))
        self.describe(manifest)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """The database, in a transaction; raises StoreError where it is damaged or the disk is full."""
        try:
            with self._db:
                yield self._db
        except DAMAGE as error:
            raise damaged(self.folder / DATABASE, error) from error

    def begin(self, cells: Iterable[Cell], manifest: dict[str, Any]) -> None:
        """Register the cells of a sweep and what it runs on; failures of earlier attempts are forgotten."""
        with self._transaction() as db:
            for cell in cells:
                db.execute(
                    "INSERT INTO cells VALUES (?, ?, NULL) ON CONFLICT (key) DO UPDATE SET error = NULL",
                    (cell.key, cell.to_json()),
                )
        self.describe(manifest)

    def describe(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest."""
        with self._transaction() as db:
            db.execute("DELETE FROM manifest")
            text = json.dumps(manifest)
            db.execute("INSERT INTO manifest VALUES (?, ?)", (text, zlib.crc32(text.encode())))

    def add(self, counts: Iterable[Counts]) -> None:
        """Store blocks in one transaction; a block that is already there stays as it was."""
        rows = [
            (b.cell, b.image, b.stage, b.first, b.draws, encode(c.votes), *(getattr(c.cost, k) for k in COSTS))
            for c in counts
            for b in (c.block,)
        ]
        now = time.monotonic()
        due = now - self._synced >= SYNC_S
        with self._transaction() as db:
            db.execute(f"PRAGMA synchronous = {'FULL' if due else 'NORMAL'}")
            db.executemany(INSERT, map(checked, rows))
        if due:
            self._synced = now

    def fail(self, cell: str, message: str) -> None:
        """Record why a cell could not be finished."""
        with self._transaction() as db:
            db.execute("UPDATE cells SET error = ? WHERE key = ?", (message, cell))

    def manifest(self) -> dict[str, Any]:
        """The manifest as it was last described; empty where nothing has begun."""
        with self._transaction() as db:
            return stored_manifest(db, self.folder / DATABASE)

    def size(self) -> int:
        """How many blocks are stored."""
        with self._transaction() as db:
            return int(db.execute("SELECT count(*) FROM blocks").fetchone()[0])

    def cells(self) -> list[Cell]:
        """Every cell of which something is counted, of this sweep and of earlier ones; none that cannot be read."""
        with self._transaction() as db:
            rows = db.execute("SELECT cell FROM cells WHERE key IN (SELECT DISTINCT cell FROM blocks)").fetchall()
        known = []
        for (text,) in rows:
            try:
                known.append(Cell.from_json(text))
            except (TypeError, ValueError):
                continue  # of another version, so it cannot be one that is asked for now
        return known

    def tallies(self, cell: str) -> Mapping[int, Tally]:
        """What has been counted of each image of a cell, read when it is asked for."""
        return StoredTallies(self, cell)

    def images(self, cell: str) -> list[int]:
        """The images of which something is counted."""
        with self._transaction() as db:
            return [row[0] for row in db.execute("SELECT DISTINCT image FROM blocks WHERE cell = ?", (cell,))]

    def tally(self, cell: str, image: int) -> Tally:
        """What has been counted of an image; empty where there is nothing."""
        tally: Tally = Tally({}, {})
        with self._transaction() as db:
            rows = db.execute(f"SELECT {SELECTED} FROM blocks WHERE cell = ? AND image = ?", (cell, image)).fetchall()
        path = self.folder / DATABASE
        for (_, _, stage, first, *_), votes in zip(rows, votes_of(intact(rows, path), path), strict=True):
            getattr(tally, stage)[first] = tuple(votes)
        return tally


@dataclass(frozen=True, eq=False)
class StoredTallies(Mapping[int, Tally]):
    """What a store holds of a cell, by image. Nothing is kept: the votes of all images together may be gigabytes."""

    store: Store
    cell: str

    def __getitem__(self, image: int) -> Tally:
        tally = self.store.tally(self.cell, image)
        if not tally.select and not tally.estimate:
            raise KeyError(image)
        return tally

    def __iter__(self) -> Iterator[int]:
        return iter(self.store.images(self.cell))

    def __len__(self) -> int:
        return len(self.store.images(self.cell))
