"""Save what is whole of a damaged results database; what is lost is counted again by the run's own command."""

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
    SELECTED,
    StoreError,
    add_checksums,
    holds,
    is_cell,
    refuse_damage,
    refuse_later,
    refuse_others,
    stored_manifest,
)
from bench.store.journal import read_journal
from bench.store.pages import Row
from bench.store.run import MANIFEST, read_export
from bench.store.salvage import KEY, is_whole, salvage
from bench.store.store import Store


@dataclass(frozen=True)
class Repaired:
    """What a repair found.

    Attributes:
        kept: blocks that are whole.
        damaged: blocks whose checksum, or whose votes, do not hold.
        unreadable: whether parts of the file or its journal could not be read, so that more blocks may be lost.
        backup: where the damaged file lies now; None where nothing had to be done.
        described: whether it is known what was counted; otherwise the run's own command says so again.
    """

    kept: int
    damaged: int
    unreadable: bool
    backup: Path | None
    described: bool = True


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
    journal = read_journal(path)
    try:
        with closing(sqlite3.connect(copied(path, torn))) as db:
            with suppress(*DAMAGE):
                refuse_later(db, path)
                add_checksums(db)
            manifest, cells, complete = facts(db, path)
            found, unreadable = every_row(db)
            sound = complete and not unreadable and is_sound(db, path)
        whole = {row[:KEY]: row for row in found if is_whole(row)}
        if sound and len(whole) == len(found) and all(map(holds, found)):
            shutil.rmtree(fresh)
            return Repaired(len(whole), 0, False, None)
        rest = salvage(path, journal)
        manifest = manifest or next(iter(rest.manifests), {})
        cells = {**rest.cells, **cells}
        whole = {**rest.blocks, **whole}
        if not manifest:
            manifest, cells = from_exports(folder, cells, bool(whole))
    except StoreError:
        shutil.rmtree(fresh)
        raise
    with Store(fresh) as store:
        store.take_over(manifest, cells.values(), (row[:-1] for row in whole.values()))
    backup = next(b for n in range(1, 1000) if not (b := folder / f"{DATABASE}.damaged-{n}").exists())
    for end in ("", "-wal", "-shm"):
        if (file := path.with_name(path.name + end)).exists():
            file.replace(backup.with_name(backup.name + end))
    (fresh / DATABASE).replace(path)
    shutil.rmtree(fresh)
    dropped = {row[:KEY] for row in found} - set(whole)
    return Repaired(len(whole), len(dropped), unreadable or journal.damaged, backup, bool(manifest))


def facts(db: sqlite3.Connection, path: Path) -> tuple[dict[str, Any], dict[str, Row], bool]:
    """The manifest and the cells that are whole, as SQLite reads them, and whether that is all of them."""
    try:
        manifest = stored_manifest(db, path)
        rows = db.execute("SELECT key, cell, error FROM cells").fetchall()
    except (*DAMAGE, StoreError):
        return {}, {}, False
    whole = {row[0]: row for row in rows if is_cell(row)}
    return manifest, whole, bool(manifest) and len(whole) == len(rows)


def from_exports(folder: Path, cells: dict[str, Row], saved: bool) -> tuple[dict[str, Any], dict[str, Row]]:
    """The manifest that was exported, empty where none was, and its cells besides those that are known.

    Raises:
        StoreError: there is none, and no block is saved.
    """
    if (folder / MANIFEST).is_file():
        manifest, registered, _ = read_export(folder)
        return manifest, {**{row[0]: row for row in registered}, **cells}
    if saved:
        return {}, cells
    raise StoreError(
        f"{folder / DATABASE} has lost its manifest, and there is no {MANIFEST} beside it: nothing can be saved. "
        "Move it away and run again"
    )


def every_row(db: sqlite3.Connection) -> tuple[list[Row], bool]:
    """Every block that SQLite can read, and whether there were some that it could not."""
    rows: dict[Row, Row] = {}
    for order in ("", " DESC"):  # from both ends up to what is damaged
        by = ", ".join(name + order for name in COLUMNS[:KEY])
        try:
            for row in db.execute(f"SELECT {SELECTED} FROM blocks ORDER BY {by}"):
                rows[row[:KEY]] = row
        except (*DAMAGE, ValueError):  # ValueError: text that is not text any more
            continue
        return list(rows.values()), False
    return list(rows.values()), True


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


def is_sound(db: sqlite3.Connection, path: Path) -> bool:
    """Whether SQLite finds the file's structure sound, and we its tables."""
    try:
        refuse_damage(path)
        refuse_later(db, path)
        refuse_others(db)
        return bool(db.execute("PRAGMA quick_check").fetchone() == ("ok",))
    except DAMAGE:
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
        yield "parts of it could not be read; blocks that lay nowhere else are lost"
    if not found.described:
        yield "the manifest is lost: nothing reads these blocks until the run's own command has written it again"
    yield "the run's own command counts again what is missing"
