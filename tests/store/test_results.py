"""A results folder as it is read back: exports that say what the database says, damage that is named."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3

import pytest
from stored import make_cell, make_counts, make_manifest

from bench.store.checksums import SUMS
from bench.store.database import COSTS, DATABASE, StoreError
from bench.store.run import MANIFEST, PARQUET, PUBLISHED, export, read_run
from bench.store.store import Store


@pytest.fixture
def run_folder(run_folder):
    """Without a list of checksums, as earlier versions wrote it: damage is found by what is inside of the files."""
    (run_folder / SUMS).unlink()
    return run_folder


def without_checksum(folder):
    """The exported manifest as earlier versions wrote it."""
    manifest = json.loads((folder / MANIFEST).read_text())
    return {k: v for k, v in manifest.items() if k != "crc"}


def said(run):
    return run.manifest, run.cells, run.errors, run.blocks.to_dict("list")


def test_an_export_says_what_the_database_says(run_folder, tmp_path):
    from_database = read_run(run_folder)
    assert from_database.blocks["cell"].nunique() == 2 and len(from_database.errors) == 1

    for name in (MANIFEST, PARQUET):
        (tmp_path / "copy").mkdir(exist_ok=True)
        shutil.copy(run_folder / name, tmp_path / "copy" / name)
    from_export = read_run(tmp_path / "copy")

    assert from_export.cells == from_database.cells
    assert list(from_export.cells) == list(from_database.cells)
    assert from_export.errors == from_database.errors
    assert {k: v for k, v in from_export.manifest.items() if k != "cells"} == from_database.manifest
    exported, stored = (
        r.blocks.sort_values(["cell", "image", "stage", "first"], ignore_index=True)
        for r in (from_export, from_database)
    )
    assert [list(v) for v in exported["votes"]] == list(stored["votes"])
    for column in ("cell", "image", "stage", "first", "draws", *COSTS):
        assert exported[column].tolist() == stored[column].tolist(), column


def test_an_export_of_what_was_exported_is_the_same_file(run_folder):
    before = {name: (run_folder / name).read_bytes() for name in (MANIFEST, PARQUET)}
    (run_folder / DATABASE).unlink()
    export(read_run(run_folder))
    assert {name: (run_folder / name).read_bytes() for name in (MANIFEST, PARQUET)} == before


@pytest.mark.parametrize("name", [MANIFEST, PARQUET])
def test_a_flipped_bit_of_an_export_is_harmless_or_named_with_the_remedy(run_folder, name):
    (run_folder / DATABASE).unlink()
    expected, content = said(read_run(run_folder)), (run_folder / name).read_bytes()
    rng = random.Random(0)
    for _ in range(200):
        at, bit = rng.randrange(len(content)), 1 << rng.randrange(8)
        (run_folder / name).write_bytes(content[:at] + bytes([content[at] ^ bit]) + content[at + 1 :])
        try:
            wrong = said(read_run(run_folder)) != expected
        except StoreError as error:
            wrong = name not in str(error) or "export it again" not in str(error)
        assert not wrong, (at, bit)


def test_an_export_without_a_checksum_is_read_as_before(run_folder):
    (run_folder / DATABASE).unlink()
    expected = said(read_run(run_folder))
    (run_folder / MANIFEST).write_text(json.dumps(without_checksum(run_folder)))
    assert said(read_run(run_folder)) == expected


def test_the_database_is_read_where_there_are_both(run_folder):
    (run_folder / PARQUET).write_bytes(b"older")
    assert len(read_run(run_folder).blocks) == 9


def test_cells_come_back_in_the_order_of_the_sweep(tmp_path):
    cells = [make_cell(name, sigma) for sigma in (1.0, 0.25) for name in ("sde", "none", "consistency", "ddpm")]
    assert [c.key for c in cells] != sorted(c.key for c in cells)
    with Store(tmp_path) as store:
        store.begin(cells, make_manifest(*cells))
        for cell in reversed(cells):
            store.add([make_counts(cell)])
    run = read_run(tmp_path)
    assert list(run.cells.values()) == cells
    export(run)
    (tmp_path / DATABASE).unlink()
    assert list(read_run(tmp_path).cells.values()) == cells


def test_a_cell_comes_back_with_the_key_it_was_stored_under(run_folder):
    for key, cell in read_run(run_folder).cells.items():
        assert cell.key == key


def other_key(manifest):
    manifest["sweep"][1] = "0" * 16


def other_name(manifest):
    manifest["sweeq"] = manifest.pop("sweep")
    manifest["cells"] = manifest.pop("cells")


def no_cell(manifest):
    del manifest["cells"][1]


def neither(manifest):
    del manifest["cells"][1], manifest["sweep"][1]


@pytest.mark.parametrize("change", [other_key, other_name, no_cell, neither])
def test_every_cell_of_an_exported_sweep_is_there_and_every_block_belongs_to_one(run_folder, change):
    """In exports of earlier versions, which have no checksum."""
    (run_folder / DATABASE).unlink()
    manifest = without_checksum(run_folder)
    change(manifest)
    (run_folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match="is damaged or missing"):
        read_run(run_folder)


def test_a_database_that_lacks_a_cell_of_its_sweep_is_refused(run_folder):
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute("DELETE FROM cells WHERE key = ?", (make_cell("none").key,))
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"lacks 1 of the 2 cells of its sweep.*the run's own command"):
        read_run(run_folder)


def test_an_export_of_a_later_format_is_refused(run_folder):
    (run_folder / DATABASE).unlink()
    manifest = without_checksum(run_folder)
    (run_folder / MANIFEST).write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(StoreError, match=r"manifest\.json is of format 2.*update purifybench"):
        read_run(run_folder)


@pytest.mark.parametrize("damage", [b"", b"not a database at all, " * 100])
def test_a_file_that_is_no_database_is_named_with_the_remedy(run_folder, damage):
    (run_folder / DATABASE).write_bytes(damage)
    with pytest.raises(StoreError, match=r"run\.sqlite is damaged.*bench doctor --repair"):
        read_run(run_folder)


def test_a_table_that_is_not_ours_is_named_with_the_remedy(run_folder):
    (run_folder / DATABASE).unlink()
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute("CREATE TABLE blocks (something TEXT)")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"run\.sqlite is damaged"):
        read_run(run_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"cells": [{"key": "a"}]}', '{"cells": 3}', '{"format": "x"}'])
def test_a_damaged_manifest_is_named_with_the_remedy(run_folder, text):
    (run_folder / DATABASE).unlink()
    (run_folder / MANIFEST).write_text(text)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged or missing.*export it again"):
        read_run(run_folder)


def test_a_cell_with_fields_that_this_version_does_not_know_is_named_as_damage(run_folder):
    (run_folder / DATABASE).unlink()
    manifest = without_checksum(run_folder)
    cell = json.loads(manifest["cells"][0]["cell"])
    manifest["cells"][0]["cell"] = json.dumps({**cell, "colour": "blue"})
    (run_folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(StoreError, match=r"manifest\.json"):
        read_run(run_folder)


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "other columns"])
def test_a_damaged_parquet_is_named_with_the_remedy(run_folder, damage):
    import pandas as pd

    (run_folder / DATABASE).unlink()
    path = run_folder / PARQUET
    content = path.read_bytes()
    path.unlink()
    if damage == "other columns":
        pd.DataFrame({"cell": ["a"], "image": [0]}).to_parquet(path)
    elif damage != "missing":
        path.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"")
    with pytest.raises(StoreError, match=r"counts\.parquet is damaged or missing.*export it again"):
        read_run(run_folder)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", '"'])
def test_a_damaged_table_of_published_logs_is_named(run_folder, text):
    (run_folder / PUBLISHED).write_text(text)
    with pytest.raises(StoreError, match=r"published\.csv"):
        read_run(run_folder)


def test_a_folder_without_a_run_says_how_to_make_one(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(StoreError, match=r"there is no run in .*bench run"):
            read_run(folder)
    assert not (tmp_path / "absent").exists()


def test_a_manifest_that_changed_on_the_disk_is_noticed(run_folder):
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute("UPDATE manifest SET json = replace(json, '\"0\": 3', '\"0\": 4')")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match="the manifest is damaged"):
        read_run(run_folder)


def test_reading_makes_no_file_and_needs_no_lock(run_folder):
    with Store(run_folder):
        during = set(run_folder.iterdir())
        assert len(read_run(run_folder).blocks) == 9
        assert set(run_folder.iterdir()) == during
