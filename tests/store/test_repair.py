"""Torn files and flipped bits are noticed, and a repair keeps the blocks that are whole."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from blocks import copy, fill, rows
from stored import closed_run

from bench.store.database import _FORMAT, _LATER, DATABASE, StoreError
from bench.store.repair import repair, verdict
from bench.store.run import MANIFEST, PARQUET, export, read_run
from bench.store.store import Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run of 2,400 blocks, without exports."""
    return closed_run(tmp_path_factory.mktemp("whole") / "run", fill)


def test_a_whole_database_is_left_as_it_is(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    before = (folder / DATABASE).read_bytes()
    repaired = repair(folder)
    assert (repaired.kept, repaired.damaged, repaired.unreadable, repaired.backup) == (2400, 0, False, None)
    assert (folder / DATABASE).read_bytes() == before
    assert "2,400 blocks, every checksum holds" in " ".join(verdict(repaired))


@pytest.mark.parametrize("seed", range(2, 14))
def test_a_flipped_bit_is_noticed_or_harmless_and_only_its_blocks_are_lost(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    original = rows(whole)
    rng = random.Random(seed)
    content = bytearray((whole / DATABASE).read_bytes())
    for _ in range(3):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    folder = copy(whole, tmp_path / "run")
    (folder / DATABASE).write_bytes(content)
    try:
        wrong = rows(folder) != original  # equal where nothing was written, or in text that no figure depends on
    except StoreError as error:
        wrong = "bench doctor --repair" not in str(error)
    assert not wrong
    repaired = repair(folder)
    saved = rows(folder)
    assert saved <= original and len(saved) == repaired.kept
    assert len(saved) > 0.7 * len(original)
    with Store(folder) as store:  # counts the lost blocks again
        fill(store)
    assert rows(folder) == original


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_of_the_first_page_is_harmless_or_named_and_the_run_can_go_on(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    """The header and the schema: a repair may keep nothing, but the same command always gets to the same counts."""
    expected, content = rows(whole), (whole / DATABASE).read_bytes()
    rng = random.Random(seed)
    used = [at for at in range(4096) if at < 100 or content[at]]
    for _ in range(12):
        at, bit = rng.choice([rng.randrange(100), rng.choice(used)]), rng.randrange(8)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        folder = copy(whole, tmp_path / "run")
        (folder / DATABASE).write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
        try:
            wrong = rows(folder) != expected
        except StoreError as error:
            wrong = not any(remedy in str(error) for remedy in ("bench doctor --repair", "update purifybench"))
        assert not wrong, (at, bit)
        try:
            repair(folder)
        except StoreError as error:
            refusal = str(error)
            (folder / DATABASE).unlink()
        else:
            refusal = ""
        assert not refusal or "move it away" in refusal or "update purifybench" in refusal, (at, bit)
        with Store(folder) as store:
            fill(store)
        assert rows(folder) == expected, (at, bit)


@pytest.mark.parametrize("version", [0, 1, 2, *(_FORMAT ^ 1 << bit for bit in range(2, 32))])
def test_another_format_is_refused_and_a_repair_brings_whole_blocks_to_this_one(
    whole: Path, tmp_path: Path, version: int
) -> None:
    folder = copy(whole, tmp_path / "run")
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[:60] + version.to_bytes(4, "big") + content[64:])
    assert not _FORMAT <= version <= _FORMAT + _LATER
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)
    assert repair(folder).kept == 2400
    assert rows(folder) == rows(whole)


def test_a_database_without_checksums_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    db = sqlite3.connect(folder / DATABASE)
    db.execute("ALTER TABLE blocks DROP COLUMN crc")
    db.commit()
    db.close()
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)


def test_a_table_that_begins_inside_itself_is_noticed(whole: Path, tmp_path: Path) -> None:
    """Its rows are whole, but some are missing."""
    folder = copy(whole, tmp_path / "run")
    db = sqlite3.connect(folder / DATABASE)
    db.executescript(
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = rootpage + 8 WHERE name = 'blocks';"
        "PRAGMA writable_schema = OFF;"
    )
    db.close()
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)
    assert repair(folder).backup is not None
    assert rows(folder) < rows(whole)


def test_a_schema_that_is_no_text_is_named(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content.replace(b"peak_bytes", b"peak_\xff\xfetes", 1))
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)


@pytest.mark.parametrize(
    "change", ["""cell = replace(cell, '"sigma": 0.5', '"sigma": 0.7')""", "key = replace(key, 'a', 'b')"]
)
def test_a_cell_that_changed_on_the_disk_is_noticed(whole: Path, tmp_path: Path, change: str) -> None:
    folder = copy(whole, tmp_path / "run")
    db = sqlite3.connect(folder / DATABASE)
    db.execute(f"UPDATE cells SET {change}")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"a cell is damaged.*bench doctor --repair"):
        read_run(folder)
    assert repair(folder).kept == 2400
    with Store(folder) as store:
        fill(store)
    assert rows(folder) == rows(whole)


def test_a_lost_manifest_costs_no_block(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    db = sqlite3.connect(folder / DATABASE)
    db.execute("UPDATE manifest SET json = '{}'")
    db.commit()
    db.close()
    for attempt in (read_run, lambda folder: Store(folder).manifest()):
        with pytest.raises(StoreError, match=r"the manifest is damaged; `bench doctor --repair"):
            attempt(folder)
    repaired = repair(folder)
    assert not repaired.described and repaired.kept == 2400
    assert "the manifest is lost" in " ".join(verdict(repaired))
    with Store(folder) as store:
        fill(store)
    assert rows(folder) == rows(whole)


def test_bits_flipped_in_votes_are_always_noticed(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    content = (folder / DATABASE).read_bytes()
    at = content.index(b"[3, 7]", 8192)
    (folder / DATABASE).write_bytes(content[: at + 1] + b"2" + content[at + 2 : at + 4] + b"8" + content[at + 5 :])
    with pytest.raises(StoreError, match="is damaged; `bench doctor --repair"):
        rows(folder)
    damaged = (folder / DATABASE).read_bytes()
    repaired = repair(folder)
    assert (repaired.kept, repaired.damaged) == (2399, 1)
    assert repaired.backup is not None and repaired.backup.read_bytes() == damaged
    assert "dropped 1 blocks" in " ".join(verdict(repaired))
    assert len(rows(folder)) == 2399


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_torn_file_is_noticed_and_what_is_left_is_saved(whole: Path, tmp_path: Path, share: float) -> None:
    folder = copy(whole, tmp_path / "run")
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[: int(share * len(content))])
    with pytest.raises(StoreError, match="bench doctor --repair"):
        rows(folder)
    if share == 0:
        with pytest.raises(StoreError, match="move it away and run again"):
            repair(folder)
        return
    with pytest.raises(StoreError, match="bench doctor --repair"):
        Store(folder)
    repaired = repair(folder)
    assert repaired.unreadable and (1080 if share == 0.9 else 0) <= repaired.kept < 2400  # both ends may be lost
    assert "other blocks may be lost" in " ".join(verdict(repaired))
    assert rows(folder) < rows(whole)
    with Store(folder) as store:
        fill(store)
    assert rows(folder) == rows(whole)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_repair_takes_missing_blocks_from_the_exports(whole: Path, tmp_path: Path, share: float) -> None:
    folder = copy(whole, tmp_path / "run")
    export(read_run(folder))
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[: int(share * len(content))])
    assert (folder / PARQUET).is_file() and (folder / MANIFEST).is_file()
    repaired = repair(folder)
    assert repaired.kept == 2400 and repaired.backup is not None
    assert rows(folder) == rows(whole)


def test_an_empty_database_beside_exports_is_continued_from_them(whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    export(read_run(folder))
    (folder / DATABASE).write_bytes(b"")
    with Store(folder) as store:
        assert store.size() == 2400
    assert rows(folder) == rows(whole)


def test_a_folder_without_a_database_or_with_a_running_one_is_refused(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="nothing to repair"):
        repair(tmp_path)
    folder = copy(whole, tmp_path / "run")
    with Store(folder), pytest.raises(StoreError, match="wait for it"):
        repair(folder)


def test_the_command_says_what_it_saved(cli, whole: Path, tmp_path: Path) -> None:
    folder = copy(whole, tmp_path / "run")
    assert "every checksum holds" in cli("doctor", "--repair", folder).stdout
    db = sqlite3.connect(folder / DATABASE)
    db.execute("UPDATE blocks SET draws = 11 WHERE image = 3 AND first = 20")
    db.commit()
    db.close()
    result = cli("doctor", "--repair", folder)
    assert (
        result.exit_code == 0
        and "dropped 2 blocks" in result.stdout
        and "counts the missing blocks again" in result.stdout
    )
    assert cli("doctor", "--repair", tmp_path / "absent").exit_code == 2
