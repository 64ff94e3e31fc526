"""Damage where SQLite begins to read: the header, the schema and the journal. Told, and every whole block is saved."""

from __future__ import annotations

import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from stored import closed_run, make_cell, make_counts, make_manifest

from bench.store.database import DATABASE, FORMAT, LATER, StoreError
from bench.store.journal import FRAME, HEADER, USUAL, read_journal
from bench.store.repair import repair, verdict
from bench.store.run import read_run
from bench.store.store import Store

CELL = make_cell("sde", steps=4)
MANIFEST = {**make_manifest(CELL), "labels": {str(image): image % 10 for image in range(2000)}}  # more than a page
IMAGES, BLOCKS = 6, 20
JOURNAL = f"{DATABASE}-wal"


def fill(store: Store) -> None:
    store.begin([CELL], MANIFEST)
    for image in range(IMAGES):
        for k in range(BLOCKS):
            store.add([make_counts(CELL, image, first=10 * k, votes=(k % 11, 10 - k % 11))])


def said(folder: Path) -> tuple:
    run = read_run(folder)
    return run.manifest, run.cells, {(*map(str, row[:-1]),) for row in run.blocks.itertuples(index=False)}


def flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run without exports."""
    return closed_run(tmp_path_factory.mktemp("whole") / "run", fill)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as it lies while it is written: all of it is in the journal."""
    folder = tmp_path_factory.mktemp("cut")
    with Store(folder / "open") as store:
        fill(store)
        shutil.copytree(folder / "open", folder / "cut")
    (folder / "cut" / f"{DATABASE}-shm").unlink()
    return folder / "cut"


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_of_the_first_page_is_harmless_or_named_and_repair_saves_everything(
    whole: Path, tmp_path: Path, seed: int
) -> None:
    expected, content = said(whole), (whole / DATABASE).read_bytes()
    rng = random.Random(seed)
    used = [at for at in range(USUAL) if at < 100 or content[at]]
    for _ in range(12):
        at, bit = rng.choice([rng.randrange(100), rng.choice(used)]), rng.randrange(8)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        folder = Path(shutil.copytree(whole, tmp_path / "run"))
        (folder / DATABASE).write_bytes(flipped(content, at, bit))
        try:
            wrong = said(folder) != expected
        except StoreError as error:
            wrong = "bench doctor --repair" not in str(error)
        assert not wrong, (at, bit)
        assert repair(folder).kept == IMAGES * BLOCKS, (at, bit)
        with Store(folder) as store:
            fill(store)
        assert said(folder) == expected, (at, bit)


@pytest.mark.parametrize("version", [FORMAT ^ 1 << bit for bit in range(2, 32)])
def test_a_format_with_a_flipped_bit_is_no_later_one(whole: Path, tmp_path: Path, version: int) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[:60] + version.to_bytes(4, "big") + content[64:])
    assert version > FORMAT + LATER
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)
    assert repair(folder).kept == IMAGES * BLOCKS
    assert said(folder) == said(whole)


def test_a_schema_that_is_no_text_is_named(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content.replace(b"peak_bytes", b"peak_\xff\xfetes", 1))
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)
    assert repair(folder).kept == IMAGES * BLOCKS


def test_a_table_that_begins_in_the_midst_of_itself_is_noticed(whole: Path, tmp_path: Path) -> None:
    """Its rows are whole, but they are not all of them."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    db = sqlite3.connect(folder / DATABASE)
    db.executescript(
        "PRAGMA writable_schema = ON; UPDATE sqlite_master SET rootpage = rootpage + 8 WHERE name = 'blocks';"
        "PRAGMA writable_schema = OFF;"
    )
    db.close()
    for attempt in (read_run, Store):
        with pytest.raises(StoreError, match="bench doctor --repair"):
            attempt(folder)
    assert repair(folder).kept == IMAGES * BLOCKS
    assert said(folder) == said(whole)


def test_a_cell_that_changed_on_the_disk_is_noticed(whole: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    db = sqlite3.connect(folder / DATABASE)
    db.execute("""UPDATE cells SET cell = replace(cell, '"sigma": 0.5', '"sigma": 0.7')""")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"a cell is damaged.*bench doctor --repair"):
        read_run(folder)


@pytest.mark.parametrize("seed", range(6))
def test_a_flipped_bit_of_the_journal_is_told_and_repair_saves_everything(
    whole: Path, cut: Path, tmp_path: Path, seed: int
) -> None:
    expected, content = said(whole), (cut / JOURNAL).read_bytes()
    rng = random.Random(seed)
    last = len(content) - 4 * (FRAME + USUAL)  # the end of it may be what a power cut left
    for at in (rng.randrange(HEADER), HEADER + rng.randrange(FRAME), *(rng.randrange(last) for _ in range(3))):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        folder = Path(shutil.copytree(cut, tmp_path / "run"))
        (folder / JOURNAL).write_bytes(flipped(content, at, rng.randrange(8)))
        for attempt in (read_run, Store):
            with pytest.raises(StoreError, match=r"a page of its journal is damaged.*bench doctor --repair"):
                attempt(folder)
        found = repair(folder)
        assert (found.kept, found.unreadable) == (IMAGES * BLOCKS, True), at
        with Store(folder) as store:  # says anew what a damaged page held alone
            fill(store)
        assert said(folder) == expected, at


def test_a_manifest_that_is_lost_costs_no_block(whole: Path, cut: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cut, tmp_path / "run"))
    content = (folder / JOURNAL).read_bytes()
    (folder / JOURNAL).write_bytes(content.replace(b'{"format"', b'{"farmat"'))
    found = repair(folder)
    assert not found.described and found.kept == IMAGES * BLOCKS
    assert "the manifest is lost" in " ".join(verdict(found))
    with Store(folder) as store:
        fill(store)
    assert said(folder) == said(whole)


@pytest.mark.parametrize("order", ["in order", "last page alone"])
def test_what_a_power_cut_leaves_of_the_last_transaction_is_no_damage(whole: Path, tmp_path: Path, order: str) -> None:
    """The last transaction was not synced: its pages reach the disk in any order, or none."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    with Store(folder) as store:
        store.describe(MANIFEST)
        start = (folder / JOURNAL).stat().st_size
        store.add([make_counts(CELL, image, first=5000, votes=(3, 7)) for image in range(100, 400)])
        shutil.copytree(folder, tmp_path / "cut")
    content = bytearray((tmp_path / "cut" / JOURNAL).read_bytes())
    assert len(content) > start + 3 * (FRAME + USUAL)
    if order == "in order":
        del content[start + FRAME + 100 :]
    else:
        content[start : start + FRAME + USUAL] = bytes(FRAME + USUAL)
    (tmp_path / "cut" / JOURNAL).write_bytes(content)
    (tmp_path / "cut" / f"{DATABASE}-shm").unlink()
    assert not read_journal(tmp_path / "cut" / DATABASE).damaged
    assert said(tmp_path / "cut") == said(whole)


def test_a_journal_that_is_written_is_whole(tmp_path: Path) -> None:
    """Through many checkpoints, after each of which it begins anew over its older pages."""
    with Store(tmp_path) as store:
        store._db.execute("PRAGMA wal_autocheckpoint = 20")
        store.begin([CELL], MANIFEST)
        for k in range(100):
            store.add([make_counts(CELL, k, first=10 * i, votes=(3, 7)) for i in range(5)])
            assert not read_journal(tmp_path / DATABASE).damaged
        assert len(read_run(tmp_path).blocks) == 500
