"""Power cuts and full disks lose no stored transaction."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from blocks import BLOCKS, CELLS, copy, counts, fill, rows
from stored import closed_run

from bench.store.database import DATABASE, StoreError
from bench.store.run import read_run
from bench.store.store import Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run of 2,400 blocks, without exports."""
    return closed_run(tmp_path_factory.mktemp("whole") / "run", fill)


def test_a_power_cut_loses_no_transaction(tmp_path: Path) -> None:
    """The files as they lie while the store is open: nothing closed, nothing checkpointed."""
    with Store(tmp_path / "open") as store:
        fill(store)
        shutil.copytree(tmp_path / "open", tmp_path / "cut")
        expected = rows(tmp_path / "open")
    assert (tmp_path / "cut" / f"{DATABASE}-wal").stat().st_size > 0
    (tmp_path / "cut" / f"{DATABASE}-shm").unlink()
    assert rows(tmp_path / "cut") == expected


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
@pytest.mark.parametrize("harm", ["torn", "flipped"])
def test_what_a_damaged_journal_loses_is_counted_again(tmp_path: Path, share: float, harm: str) -> None:
    """SQLite silently ignores all transactions from the first damaged page of its write-ahead log on."""
    with Store(tmp_path / "open") as store:
        store._db.execute("PRAGMA wal_autocheckpoint = 0")
        fill(store)
        shutil.copytree(tmp_path / "open", tmp_path / "cut")
        expected = rows(tmp_path / "open")
    journal = tmp_path / "cut" / f"{DATABASE}-wal"
    content = journal.read_bytes()
    at = int(share * len(content))
    journal.write_bytes(content[:at] + (b"" if harm == "torn" else bytes([content[at] ^ 4]) + content[at + 1 :]))
    (tmp_path / "cut" / f"{DATABASE}-shm").unlink()
    with Store(tmp_path / "cut") as store:
        fill(store)
    assert rows(tmp_path / "cut") == expected


def test_a_full_disk_is_named_and_nothing_that_was_stored_is_lost(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    before = rows(folder)
    with Store(folder) as store:
        pages = store._db.execute("PRAGMA page_count").fetchone()[0]
        store._db.execute(f"PRAGMA max_page_count = {pages}")
        many = [counts(CELLS[0], image, 10 * k) for image in range(1000, 2000) for k in range(BLOCKS)]
        with pytest.raises(StoreError, match="make room, and the same command continues"):
            store.add(many)
    assert before <= rows(folder)
    with Store(folder) as store:
        store.add([counts(CELLS[0], 5000, 0)])
    assert len(read_run(folder).blocks.query("image == 5000")) == 1
