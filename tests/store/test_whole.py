"""A database that lacks blocks, or holds one twice, is refused, and so are torn copies of one in the making."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from pathlib import Path

import pytest
from stored import make_cell, make_counts, make_manifest

from bench.store import database
from bench.store.database import DATABASE, StoreError
from bench.store.repair import repair
from bench.store.run import read_run
from bench.store.store import Store

CELL = make_cell()
TORN = r"damaged.*bench doctor --repair|another program"


def edit(folder: Path, *statements: str) -> None:
    db = sqlite3.connect(folder / DATABASE)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


def test_a_database_that_lacks_blocks_is_refused_and_a_repair_keeps_the_others(run_folder):
    edit(run_folder, "DELETE FROM blocks WHERE image = 83")
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match=r"has 5 blocks and says 9.*bench doctor --repair"):
            attempt(run_folder)
    for export in (*run_folder.glob("*.json"), *run_folder.glob("*.parquet")):
        export.unlink()
    assert repair(run_folder).kept == 5
    assert len(read_run(run_folder).blocks) == 5


def test_blocks_that_are_stored_again_are_not_counted_twice(run_folder):
    with Store(run_folder) as store:
        store.add([make_counts(make_cell("none"), 0, votes=(1, 9))])
        store.add([make_counts(make_cell("none"), 5)])
    assert len(read_run(run_folder).blocks) == 10


def test_a_database_of_an_earlier_version_is_read_and_continued(run_folder):
    edit(run_folder, "DROP TRIGGER counted", "DROP TABLE totals")
    assert len(read_run(run_folder).blocks) == 9
    with Store(run_folder) as store:
        store.add([make_counts(make_cell("none"), 5)])
    assert len(read_run(run_folder).blocks) == 10
    edit(run_folder, "DELETE FROM blocks WHERE image = 5")
    with pytest.raises(StoreError, match="has 9 blocks and says 10"):
        read_run(run_folder)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER counted",
        "DROP TABLE totals",
    ],
)
def test_a_database_counts_its_blocks_by_our_trigger(run_folder, statement):
    edit(run_folder, statement)
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match=r"another trigger.*bench doctor --repair"):
            attempt(run_folder)
    assert repair(run_folder).kept == 9


def test_a_database_has_no_other_trigger(run_folder):
    edit(run_folder, "CREATE TRIGGER more AFTER INSERT ON blocks BEGIN DELETE FROM cells; END")
    for attempt in (read_run, Store, repair):
        with pytest.raises(StoreError, match="more is no table of a run"):
            attempt(run_folder)


def test_a_block_that_is_stored_twice_is_refused(run_folder):
    """A table without an index takes a row twice, as one with a damaged index does."""
    edit(
        run_folder,
        "CREATE TABLE twice AS SELECT * FROM blocks UNION ALL SELECT * FROM blocks ORDER BY 1, 2, 3, 4",
        "DROP TABLE blocks",
        "ALTER TABLE twice RENAME TO blocks",
        "DROP TABLE IF EXISTS totals",
    )
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="follows block"):
            attempt(run_folder)
    assert repair(run_folder).kept == 9
    assert len(read_run(run_folder).blocks) == 9


def test_keys_of_mixed_types_are_out_of_order():
    with pytest.raises(sqlite3.DatabaseError):
        database.last_key([("a", 1, "estimate", 0), ("a", "2", "estimate", 0)])
    assert database.last_key([("a", 1, "estimate", 0), ("a", 2, "estimate", 0)]) == ("a", 2, "estimate", 0)


def test_a_database_and_a_journal_of_two_moments_are_refused(tmp_path):
    folder, copy = tmp_path / "run", tmp_path / "copy"
    copy.mkdir()
    with Store(folder) as store:
        store.begin([CELL], make_manifest(CELL))
        store.add([make_counts(CELL, image) for image in range(100)])
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(folder / DATABASE, copy)
        store.add([make_counts(CELL, image) for image in range(100, 2000)])
        store._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        store.add([make_counts(CELL, image) for image in range(2000, 2010)])
        shutil.copy(folder / f"{DATABASE}-wal", copy)
    with pytest.raises(StoreError, match=TORN):
        read_run(copy)


def test_a_copy_of_a_run_that_is_being_written_is_right_or_refused(tmp_path):
    folder, ended, copied = tmp_path / "run", threading.Event(), 0

    def write() -> None:
        with Store(folder) as store:
            store.begin([CELL], make_manifest(CELL))
            store._db.execute("PRAGMA wal_autocheckpoint = 5")
            image = 0
            while not ended.is_set():
                store.add([make_counts(CELL, image + k) for k in range(20)])
                image += 20

    with Store(folder) as store:
        store.begin([CELL], make_manifest(CELL))
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for attempt in range(25):
            copy = tmp_path / f"copy-{attempt}"
            copy.mkdir()
            for name in (DATABASE, f"{DATABASE}-wal")[:: 1 if attempt % 2 else -1]:
                if (folder / name).exists():
                    shutil.copy(folder / name, copy / name)
            try:
                images = read_run(copy).blocks["image"].tolist()
            except StoreError:
                continue
            copied += 1
            assert images == list(range(len(images))) and len(images) % 20 == 0  # whole transactions
    finally:
        ended.set()
        writer.join()
    assert read_run(folder).blocks["image"].is_unique
