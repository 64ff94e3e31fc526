"""Reading a results folder, and exporting a run into it.

The counts and the manifest of a run are in its database, `run.sqlite`. A run that has ended is also exported to
`manifest.json` and `counts.parquet`, which are small enough to commit. `read_run` reads the database if there is one.
"""

from __future__ import annotations

import gc
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.files import MOST_TEXT, TooLarge, open_file, read_json, refuse_large_table, write_file, writing
from bench.records import Cell
from bench.store import checksums, database
from bench.store.attacks import FILE as ATTACKS_FILE
from bench.store.checks import TEXTS, checksum, refuse_wrong, take_checksum
from bench.store.database import COLUMNS, DATABASE, SECONDS, SELECTED, StoreError
from bench.store.examples import EXAMPLES_FILE
from bench.store.quality import FILE as METRICS_FILE

if TYPE_CHECKING:
    import pandas as pd

_FORMAT = 1  # of the exports
PARQUET, MANIFEST, PUBLISHED = "counts.parquet", "manifest.json", "published.csv"
# Imported logs may lie alone in a folder; these files are never without a manifest.
_DERIVED = (EXAMPLES_FILE, METRICS_FILE, ATTACKS_FILE)
_WITH_COUNTS = (PARQUET, *_DERIVED, f"{DATABASE}-wal", f"{DATABASE}-journal")
# The errors that damaged exports raise in json, pandas and pyarrow.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, MemoryError, OverflowError)
_LONGEST = 1000  # characters of a key, a stage or a device
_CHUNK = 50_000  # blocks that are converted at a time: a million rows as Python objects take more than a GiB
_PUBLISHED_COLUMNS = (
    *("image", "label", "predicted", "radius", "correct"),
    *("name", "dataset", "sigma", "draws", "nfe", "largest", "rule"),
)

_PUBLISHED_KINDS = {**dict.fromkeys(("image", "label", "predicted", "draws"), "i"), "correct": "b"}
_PUBLISHED_KINDS |= dict.fromkeys(("radius", "sigma", "nfe", "largest"), "fi")


@dataclass(frozen=True)
class Run:
    """The contents of a results folder.

    Attributes:
        folder: its path.
        manifest: versions, device, preset, keys of the sweep's cells, labels of the images, class names.
        cells: key -> cell, for the latest sweep, in its order.
        errors: key -> message, for the cells that failed.
        blocks: one row per block, columns `COLUMNS`, votes as lists; blocks of earlier sweeps included.
        published: one row per certificate imported from a published log, columns `_PUBLISHED_COLUMNS`.
        remarks: what a reader should know about the files, such as that no checksum vouches for some.
        wanted: key -> number of images, of cells that want others than the images with labels.
    """

    folder: Path
    manifest: dict[str, Any]
    cells: dict[str, Cell]
    errors: dict[str, str]
    blocks: pd.DataFrame
    published: pd.DataFrame = field(default=None)  # type: ignore[assignment]
    remarks: tuple[str, ...] = ()
    wanted: dict[str, int] = field(default_factory=dict)


def read_run(folder: Path) -> Run:
    """Read a run from its database, or from its exports if there is no database.

    Raises:
        StoreError: there is no run in the folder, or its files are damaged or of another format.
    """
    try:
        from_database = _is_there(folder / DATABASE)
        manifest, registered, blocks = _read_database(folder) if from_database else read_export(folder)
        published = read_published(folder)
    except OSError as error:
        raise StoreError(f"{folder} cannot be read ({error}); allow reading it and its files") from error
    path = folder / (DATABASE if from_database else MANIFEST)
    refuse_wrong(path, manifest, blocks)
    known, current = {row[0]: row for row in registered}, list(manifest.get("sweep", ()))
    if not all(map(database.is_cell, registered)):
        remedy = f"`bench doctor --repair {folder}` keeps the others" if from_database else f"export it from {DATABASE}"
        raise StoreError(f"{path}: a cell is damaged; {remedy}")
    if lost := len(set(current) - known.keys()):
        raise StoreError(
            f"{path} lacks {lost} of the {len(current)} cells of its sweep: restore it. With {DATABASE}, the run's own "
            "command registers them again, with the counts that are stored"
        )
    try:
        cells = {key: Cell.from_json(known[key][1]) for key in current}
    except (TypeError, ValueError) as error:
        raise StoreError(
            f"{path} holds a cell that this version cannot read ({error}); update purifybench, or run again with "
            "another --out"
        ) from error
    # The database forgets errors when a run continues; an audit that failed stays in the manifest.
    audits = manifest.get("trust", {}).get("audits", {})
    errors = {key: problem for key in current if (problem := known[key][2] or audits.get(key, {}).get("error"))}
    needed = (PUBLISHED,) if from_database else (MANIFEST, PARQUET, PUBLISHED)
    remarks = checksums.remarks(folder, needed, _DERIVED)
    return Run(folder, manifest, cells, errors, blocks, published, tuple(remarks))


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a run, from its database or else from its exports; empty if there is no run. Reads no blocks.

    Raises:
        StoreError: as `read_run`.
    """
    if (path := folder / DATABASE).is_file() and path.stat().st_size:
        with database.reading(path) as db:
            if manifest := database.stored_manifest(db, path):
                return refuse_wrong(path, manifest)
    if _is_there(folder / MANIFEST):
        return refuse_wrong(folder / MANIFEST, _read_manifest(folder))
    if not _is_there(path):
        checksums.refuse_lost(folder, MANIFEST, _WITH_COUNTS)
    return {}


def read_published(folder: Path) -> pd.DataFrame:
    """The imported logs of a folder, columns `_PUBLISHED_COLUMNS`; empty if there are none."""
    import pandas as pd

    path = folder / PUBLISHED
    checksums.refuse_changed(folder, PUBLISHED)
    if not _is_there(path):
        return pd.DataFrame(columns=_PUBLISHED_COLUMNS)
    try:
        # A log may be named "NA", so only an empty NFE is missing.
        with open_file(path, MOST_TEXT) as file:
            table = pd.read_csv(
                file, dtype={"name": str, "dataset": str}, keep_default_na=False, na_values={"nfe": [""]}
            )
        if "dataset" not in table:  # of a version that did not ask for it
            table["dataset"] = ""
        wrong = [name for name, kinds in _PUBLISHED_KINDS.items() if table[name].dtype.kind not in kinds]
        if len(table) and wrong:
            raise ValueError(f"the column {wrong[0]} holds other values")
        return table[list(_PUBLISHED_COLUMNS)]
    except (OSError, ValueError, KeyError) as error:  # pandas' parser errors are ValueErrors
        raise StoreError(f"{path} is damaged ({error}); move it away and import the logs again") from error


def _read_database(folder: Path) -> tuple[dict[str, Any], list[tuple], pd.DataFrame]:
    """Manifest, rows of cells and blocks of a database; raises StoreError if it is damaged."""
    import pandas as pd

    path = folder / DATABASE
    parts = [pd.DataFrame(columns=COLUMNS)]
    with database.reading(path) as db:
        manifest = database.stored_manifest(db, path)
        registered = db.execute("SELECT key, cell, error FROM cells").fetchall()
        stored, last = db.execute(f"SELECT {SELECTED} FROM blocks"), ()
        collecting, held = gc.isenabled(), 0
        gc.disable()  # it would traverse a million rows again and again, and they hold no cycle
        try:
            while part := stored.fetchmany(_CHUNK):
                columns = dict(zip(COLUMNS, map(list, zip(*part, strict=True)), strict=False))
                columns["votes"] = database.votes_of(part, path, held)
                held += sum(map(len, columns["votes"]))
                last = database.last_key(part, last)
                parts.append(pd.DataFrame(columns))
        finally:
            if collecting:
                gc.enable()
    blocks = pd.concat(parts[1:] or parts, ignore_index=True)
    if len(blocks) and not manifest:
        raise StoreError(f"{path} has lost its manifest: restore it; or the run's own command writes it again")
    return manifest, registered, blocks


def read_export(folder: Path) -> tuple[dict[str, Any], list[tuple], pd.DataFrame]:
    """Manifest, rows of cells and blocks of exports; raises StoreError if they are missing or damaged."""
    import pandas as pd
    import pyarrow

    path = folder / MANIFEST
    if not _is_there(path):
        checksums.refuse_lost(folder, MANIFEST, _WITH_COUNTS)
        if _is_there(folder / PUBLISHED):
            return {}, [], pd.DataFrame(columns=COLUMNS)
        raise StoreError(f"there is no run in {folder} (neither {DATABASE} nor {MANIFEST}); make one with `bench run`")
    manifest = _read_manifest(folder)
    path = folder / PARQUET
    checksums.refuse_changed(folder, PARQUET)
    try:
        registered = [(c["key"], c["cell"], c["error"]) for c in manifest["cells"]]
        refuse_large_table(path)
        # Texts as dictionaries at first: a small file may hold a long text in every row.
        blocks = pd.read_parquet(path, page_checksum_verification=True, read_dictionary=[*TEXTS])[list(COLUMNS)]
        blocks = blocks.astype(dict.fromkeys(TEXTS, "category"))  # as they are, but in an empty table
        if any(len(text) > _LONGEST for name in TEXTS for text in blocks[name].cat.categories):
            raise ValueError(f"it holds a text of more than {_LONGEST:,} characters")
        blocks = blocks.astype({name: blocks[name].cat.categories.dtype for name in TEXTS})
        if not {votes.dtype.kind for votes in blocks["votes"]} <= {"i"}:
            raise ValueError("votes are no whole numbers")
        blocks["votes"] = [votes.tolist() for votes in blocks["votes"]]
        if sorted(manifest["sweep"]) != sorted(key for key, *_ in registered):
            raise ValueError("its cells are not those of its sweep")
        if unknown := set(blocks["cell"].unique()) - set(manifest["sweep"]):
            raise ValueError(f"blocks of {len(unknown)} unknown cells")
    except TooLarge as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    except (*_UNREADABLE, pyarrow.ArrowException) as error:
        raise _damaged_export(path, error) from error
    return manifest, registered, blocks


def _is_there(path: Path) -> bool:
    """Whether a folder has an entry of that name: one that is no file is refused by its reader, and not passed over.

    Raises:
        OSError: the folder may not be read.
    """
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _read_manifest(folder: Path) -> dict[str, Any]:
    """The exported manifest, with its cells; raises StoreError if it is damaged or of a later format."""
    path = folder / MANIFEST
    checksums.refuse_changed(folder, MANIFEST)
    try:
        manifest = read_json(path)
        take_checksum(manifest)
        version = manifest.get("format", _FORMAT)
        if version > _FORMAT:
            raise database.later_format(path, version, _FORMAT)
        if not all({"key", "cell", "error"} <= cell.keys() for cell in manifest["cells"]):
            raise ValueError("a cell lacks a field")
    except _UNREADABLE as error:
        raise _damaged_export(path, error) from error
    return dict(manifest)


def _damaged_export(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path} is damaged or missing ({error}); export it again from {DATABASE}")


def export(run: Run) -> list[Path]:
    """Write `manifest.json` and `counts.parquet` of the current sweep, and list them; returns their paths."""
    import numpy as np

    cells = [{"key": k, "cell": c.to_json(), "error": run.errors.get(k)} for k, c in run.cells.items()]
    manifest, parquet = run.folder / MANIFEST, run.folder / PARQUET
    record = json.loads(json.dumps({**run.manifest, "cells": cells}))  # as a reader gets it: every key is text
    blocks = run.blocks[run.blocks["cell"].isin(run.cells)]
    votes = blocks["votes"].map(lambda v: np.asarray(v, np.int32))
    blocks = blocks.assign(votes=votes).astype(dict.fromkeys(SECONDS, np.float32))
    with checksums.relisted(run.folder, MANIFEST, PARQUET, begin=True):
        write_file(manifest, json.dumps({**record, "crc": checksum(record)}, indent=1) + "\n")
        with writing(parquet) as file:
            blocks.to_parquet(file, compression="zstd", index=False, write_page_checksum=True)
    return [manifest, parquet]
