"""The results database: counts in, counts out.

A run is a folder. While it is made, its facts lie in `run.sqlite`, written by one process; `export` writes the same
facts as `counts.parquet` and `manifest.json`, small enough to commit. `read_run` takes whichever there is.
"""

from __future__ import annotations

import json
import sqlite3
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

FORMAT = 1
DATABASE, PARQUET, MANIFEST, PUBLISHED = "run.sqlite", "counts.parquet", "manifest.json", "published.csv"
COSTS = ("nfe", "classifier_rows", "noise_s", "purify_s", "classify_s", "peak_bytes", "device")
COLUMNS = ("cell", "image", "stage", "first", "draws", "votes", *COSTS)
PUBLISHED_COLUMNS = (
    *("image", "label", "predicted", "radius", "correct"),
    *("name", "sigma", "draws", "nfe", "largest", "rule"),
)
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS manifest (json TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (key TEXT PRIMARY KEY, cell TEXT NOT NULL, error TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS blocks (
    cell TEXT NOT NULL REFERENCES cells, image INTEGER NOT NULL, stage TEXT NOT NULL, first INTEGER NOT NULL,
    draws INTEGER NOT NULL, votes TEXT NOT NULL, nfe INTEGER NOT NULL, classifier_rows INTEGER NOT NULL,
    noise_s REAL NOT NULL, purify_s REAL NOT NULL, classify_s REAL NOT NULL, peak_bytes INTEGER NOT NULL,
    device TEXT NOT NULL, PRIMARY KEY (cell, image, stage, first)
) WITHOUT ROWID;
PRAGMA user_version = {FORMAT};
"""


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
        """Take over the counts of a run of which only the exports are there, so that it continues."""
        manifest, registered, blocks = read_export(self.folder)
        votes = blocks["votes"].map(lambda v: json.dumps([int(k) for k in v]))
        seconds = {name: float for name in COSTS if name.endswith("_s")}
        rows = blocks.assign(votes=votes).astype(seconds)[list(COLUMNS)]
        with self._transaction() as db:
            db.executemany("INSERT INTO cells VALUES (?, ?, ?)", registered)
            marks = ", ".join("?" * len(COLUMNS))
            db.executemany(
                f"INSERT INTO blocks VALUES ({marks})", rows.astype(object).itertuples(index=False, name=None)
            )
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
            db.execute("INSERT INTO manifest VALUES (?)", (json.dumps(manifest),))

    def add(self, counts: Iterable[Counts]) -> None:
        """Store blocks in one transaction; a block that is already there stays as it was."""
        rows = [
            (b.cell, b.image, b.stage, b.first, b.draws, json.dumps(c.votes), *(getattr(c.cost, k) for k in COSTS))
            for c in counts
            for b in (c.block,)
        ]
        with self._transaction() as db:
            db.executemany(f"INSERT OR IGNORE INTO blocks VALUES ({', '.join('?' * len(COLUMNS))})", rows)

    def fail(self, cell: str, message: str) -> None:
        """Record why a cell could not be finished."""
        with self._transaction() as db:
            db.execute("UPDATE cells SET error = ? WHERE key = ?", (message, cell))

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
            rows = db.execute("SELECT image, stage, first, votes FROM blocks WHERE cell = ?", (cell,)).fetchall()
        for image, stage, first, votes in rows:
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
        rows = db.execute("SELECT json FROM manifest").fetchall()
        registered = db.execute("SELECT key, cell, error FROM cells").fetchall()
        blocks = pd.DataFrame(db.execute(f"SELECT {', '.join(COLUMNS)} FROM blocks").fetchall(), columns=COLUMNS)
        db.close()
    except sqlite3.DatabaseError as error:
        raise damaged(path, error) from error
    blocks["votes"] = blocks["votes"].map(json.loads)
    return json.loads(rows[0][0]) if rows else {}, registered, blocks


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
            raise later_format(path, version)
        registered = [(c["key"], c["cell"], c["error"]) for c in manifest["cells"]]
        path = folder / PARQUET
        blocks = pd.read_parquet(path)[list(COLUMNS)]
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
    blocks.to_parquet(part, compression="zstd", index=False)
    part.replace(parquet)
    return [manifest, parquet]


def connect(path: Path) -> sqlite3.Connection:
    """Open a database; raises StoreError where it is of a later format."""
    db = sqlite3.connect(path, timeout=30)
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > FORMAT:
        db.close()
        raise later_format(path, version)
    return db


def later_format(path: Path, version: int) -> StoreError:
    return StoreError(f"{path} is of format {version}, this version knows up to {FORMAT}; update purifybench")


def damaged(path: Path, error: Exception) -> StoreError:
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreError(f"{path} cannot be written ({error}); make room, and the same command continues")
    return StoreError(
        f"{path} is damaged or no results database ({error}); restore it from a copy, or move it away and run again"
    )
