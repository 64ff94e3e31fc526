"""The results database: counts in, counts out.

A run is a folder. While it is made, its facts lie in `run.sqlite`, written by one process; `export` writes the same
facts as `counts.parquet` and `manifest.json`, small enough to commit. `read_run` takes whichever there is.
"""

from __future__ import annotations

import gc
import json
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from bench.certify import Tally
from bench.types import Cell, Counts

if TYPE_CHECKING:
    import pandas as pd

FORMAT = 1  # of the exports
DATABASE_FORMAT = 2  # 1: without checksums
DATABASE, PARQUET, MANIFEST, PUBLISHED = "run.sqlite", "counts.parquet", "manifest.json", "published.csv"
CHUNK = 50_000  # blocks that are read at a time: a million rows as Python objects take more than a GiB
COSTS = ("nfe", "classifier_rows", "noise_s", "purify_s", "classify_s", "peak_bytes", "device")
COLUMNS = ("cell", "image", "stage", "first", "draws", "votes", *COSTS)
INTEGERS = ("image", "first", "draws", "nfe", "classifier_rows", "peak_bytes")
PUBLISHED_COLUMNS = (
    *("image", "label", "predicted", "radius", "correct"),
    *("name", "sigma", "draws", "nfe", "largest", "rule"),
)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS manifest (json TEXT NOT NULL, crc INTEGER);
CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, cell TEXT NOT NULL, error TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    cell TEXT NOT NULL REFERENCES cells, image INTEGER NOT NULL, stage TEXT NOT NULL, first INTEGER NOT NULL,
    draws INTEGER NOT NULL, votes TEXT NOT NULL, nfe INTEGER NOT NULL, classifier_rows INTEGER NOT NULL,
    noise_s REAL NOT NULL, purify_s REAL NOT NULL, classify_s REAL NOT NULL, peak_bytes INTEGER NOT NULL,
    device TEXT NOT NULL, crc INTEGER, PRIMARY KEY (cell, image, stage, first)
) WITHOUT ROWID;
PRAGMA user_version = {DATABASE_FORMAT};
"""

SELECTED = ", ".join((*COLUMNS, "crc"))
INSERT = f"INSERT OR IGNORE INTO blocks VALUES ({', '.join('?' * (len(COLUMNS) + 1))})"
TYPES = tuple(float if name.endswith("_s") else int if name in INTEGERS else str for name in COLUMNS)


class StoreError(Exception):
    """A results folder cannot be read or written; the message names the file and the remedy."""


class Store:
    """The database of a run in the making: one process, one writer.

    Raises:
        StoreError: another run holds the folder, or the database is damaged or of a later format.
    """

    def __init__(self, folder: Path):
        self.folder = folder
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
            self._db = connect(path)
            add_checksums(self._db)
            self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;" + SCHEMA)
            if not known and (folder / MANIFEST).is_file():
                self._restore()
        except (sqlite3.DatabaseError, StoreError) as error:
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
        votes = blocks["votes"].map(lambda v: json.dumps([int(k) for k in v]))
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
        except sqlite3.DatabaseError as error:
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
            (b.cell, b.image, b.stage, b.first, b.draws, json.dumps(c.votes), *(getattr(c.cost, k) for k in COSTS))
            for c in counts
            for b in (c.block,)
        ]
        with self._transaction() as db:
            db.executemany(INSERT, map(checked, rows))

    def fail(self, cell: str, message: str) -> None:
        """Record why a cell could not be finished."""
        with self._transaction() as db:
            db.execute("UPDATE cells SET error = ? WHERE key = ?", (message, cell))

    def manifest(self) -> dict[str, Any]:
        """The manifest as it was last described; empty where nothing has begun."""
        with self._transaction() as db:
            return stored_manifest(db, self.folder / DATABASE)

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

    def tallies(self, cell: str) -> dict[int, Tally]:
        """What has been counted of each image of a cell."""
        tallies: dict[int, Tally] = {}
        with self._transaction() as db:
            rows = db.execute(f"SELECT {SELECTED} FROM blocks WHERE cell = ?", (cell,)).fetchall()
        for _, image, stage, first, _, votes, *_ in intact(rows, self.folder / DATABASE):
            tally = tallies.setdefault(image, Tally({}, {}))
            getattr(tally, stage)[first] = tuple(json.loads(votes))
        return tallies


@dataclass(frozen=True)
class Run:
    """Everything that is known of a run, as read back.

    Attributes:
        folder: where it lies.
        manifest: versions, device, the sweep as it was asked for, labels of the images, class names.
        cells: of the latest sweep, by key.
        errors: why cells failed, by key.
        blocks: a table with a row a block, columns `COLUMNS`, votes as lists (also of cells that are not in `cells`).
        published: per-image certificates imported from published logs, a row each (radii only, no counts).
    """

    folder: Path
    manifest: dict[str, Any]
    cells: dict[str, Cell]
    errors: dict[str, str]
    blocks: pd.DataFrame
    published: pd.DataFrame = field(default=None)  # type: ignore[assignment]


def read_run(folder: Path) -> Run:
    """Read a run from its database, or from what it exported.

    Raises:
        StoreError: there is no run in the folder, or its files are damaged.
    """
    from_database = (folder / DATABASE).is_file()
    manifest, registered, blocks = read_database(folder) if from_database else read_export(folder)
    known = {key: (text, error) for key, text, error in registered}
    current = [key for key in manifest.get("sweep", ()) if key in known]  # in the order in which they were asked for
    try:
        cells = {key: Cell.from_json(known[key][0]) for key in current}
    except (TypeError, ValueError) as error:
        path = folder / (DATABASE if from_database else MANIFEST)
        raise StoreError(
            f"{path} holds a cell that this version cannot read ({error}); update purifybench, or run again with "
            "another --out"
        ) from error
    errors = {key: known[key][1] for key in current if known[key][1]}
    return Run(folder, manifest, cells, errors, blocks, read_published(folder))


def read_published(folder: Path) -> pd.DataFrame:
    """The imported logs of a folder, columns `PUBLISHED_COLUMNS`; empty where there are none."""
    import pandas as pd

    path = folder / PUBLISHED
    if not path.is_file():
        return pd.DataFrame(columns=PUBLISHED_COLUMNS)
    try:
        table = pd.read_csv(path, dtype={"name": str}, keep_default_na=False, na_values={"nfe": [""]})  # "NA" is a name
        return table[list(PUBLISHED_COLUMNS)]
    except (OSError, ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise StoreError(f"{path} is damaged ({error}); move it away and import the logs again") from error


def read_database(folder: Path) -> tuple[dict[str, Any], list[tuple], pd.DataFrame]:
    import pandas as pd

    path = folder / DATABASE
    try:
        db = connect(path)
        crc = "crc" if has_checksums(db) else "NULL"
        manifest = stored_manifest(db, path)
        registered = db.execute("SELECT key, cell, error FROM cells").fetchall()
        stored = db.execute(f"SELECT {', '.join(COLUMNS)}, {crc} FROM blocks")
        parts = [pd.DataFrame(columns=COLUMNS)]
        with uncollected():
            while part := stored.fetchmany(CHUNK):
                parts.append(pd.DataFrame(intact(part, path), columns=[*COLUMNS, "crc"]).drop(columns="crc"))
                parts[-1]["votes"] = json.loads(f"[{','.join(parts[-1]['votes'])}]")
        db.close()
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    blocks = pd.concat(parts[1:] or parts, ignore_index=True)
    return manifest, registered, blocks


@contextmanager
def uncollected() -> Iterator[None]:
    """Without the collector of cycles: it would walk a million rows again and again, and they hold none."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def read_export(folder: Path) -> tuple[dict[str, Any], list[tuple], pd.DataFrame]:
    import pandas as pd

    path = folder / MANIFEST
    if not path.is_file():
        if (folder / PUBLISHED).is_file():
            return {}, [], pd.DataFrame(columns=COLUMNS)
        raise StoreError(f"there is no run in {folder} (neither {DATABASE} nor {MANIFEST}); make one with `bench run`")
    try:
        manifest = json.loads(path.read_text())
        version = manifest.get("format", FORMAT)
        if version > FORMAT:
            raise later_format(path, version, FORMAT)
        registered = [(c["key"], c["cell"], c["error"]) for c in manifest["cells"]]
        path = folder / PARQUET
        blocks = pd.read_parquet(path, page_checksum_verification=True)[list(COLUMNS)]
        blocks["votes"] = [votes.tolist() for votes in blocks["votes"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # pyarrow's errors are ValueErrors
        raise StoreError(f"{path} is damaged or missing ({error}); export it again from {DATABASE}") from error
    return manifest, registered, blocks


def export(run: Run) -> list[Path]:
    """Write `manifest.json` and `counts.parquet` of the current sweep beside the database; returns their paths."""
    import numpy as np

    cells = [{"key": k, "cell": c.to_json(), "error": run.errors.get(k)} for k, c in run.cells.items()]
    manifest, parquet = run.folder / MANIFEST, run.folder / PARQUET
    part = run.folder / "export.part"  # a reader never meets half a file
    part.write_text(json.dumps({**run.manifest, "cells": cells}, indent=1) + "\n")
    part.replace(manifest)
    blocks = run.blocks[run.blocks["cell"].isin(run.cells)]
    seconds = [name for name in COSTS if name.endswith("_s")]
    votes = blocks["votes"].map(lambda v: np.asarray(v, np.int32))
    blocks = blocks.assign(votes=votes).astype(dict.fromkeys(seconds, np.float32))
    blocks.to_parquet(part, compression="zstd", index=False, write_page_checksum=True)
    part.replace(parquet)
    return [manifest, parquet]


def connect(path: Path) -> sqlite3.Connection:
    """Open a database; raises StoreError where it is of a later format."""
    db = sqlite3.connect(path, timeout=30)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > DATABASE_FORMAT:
        db.close()
        raise later_format(path, version, DATABASE_FORMAT)
    return db


def checked(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """A row of blocks as it comes back from the database, with the checksum of its values."""
    values = tuple(kind(value) for kind, value in zip(TYPES, row, strict=True))
    return *values, zlib.crc32(repr(values).encode())


def intact(rows: list[tuple[Any, ...]], path: Path) -> list[tuple[Any, ...]]:
    """Rows of blocks whose checksums (the last column) hold; raises StoreError where one does not.

    SQLite notices damage to its own structure, not to the values that it holds.
    """
    for row in rows:
        if row[-1] is not None and zlib.crc32(repr(row[:-1]).encode()) != row[-1]:
            raise StoreError(
                f"{path}: a block of image {row[1]} is damaged; `bench doctor --repair {path.parent}` saves the others"
            )
    return rows


def stored_manifest(db: sqlite3.Connection, path: Path) -> dict[str, Any]:
    """The manifest of a database, empty where nothing has begun; raises StoreError where its checksum does not hold."""
    crc = "crc" if has_checksums(db) else "NULL"
    rows = db.execute(f"SELECT json, {crc} FROM manifest").fetchall()
    if rows and rows[0][1] not in (None, zlib.crc32(rows[0][0].encode())):
        raise StoreError(f"{path}: the manifest is damaged; `bench doctor --repair {path.parent}` saves what is whole")
    return json.loads(rows[0][0]) if rows else {}


def has_checksums(db: sqlite3.Connection) -> bool:
    return bool(db.execute("SELECT count(*) FROM pragma_table_info('blocks') WHERE name = 'crc'").fetchone()[0])


def add_checksums(db: sqlite3.Connection) -> None:
    """Bring a database of format 1 to this one: its blocks are trusted as they are, later ones are checked."""
    if db.execute("PRAGMA user_version").fetchone()[0] == 1 and not has_checksums(db):
        with db:
            for table in ("manifest", "blocks"):
                db.execute(f"ALTER TABLE {table} ADD COLUMN crc INTEGER")


def later_format(path: Path, version: int, known: int) -> StoreError:
    return StoreError(f"{path} is of format {version}, this version knows up to {known}; update purifybench")


def damaged(path: Path, error: Exception) -> StoreError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreError(f"{path} cannot be written ({error}); make room, and the same command continues")
    return StoreError(
        f"{path} is damaged or no results database ({error}); `bench doctor --repair {path.parent}` saves what is whole"
    )
