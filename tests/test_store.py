"""The results database: each block once, faults named with their remedy, exports that say the same."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.certify import Tally
from bench.store import COSTS, DATABASE, MANIFEST, PARQUET, PUBLISHED, Store, StoreError, export, read_run
from bench.types import Block, Cell, Cost, Counts

COST = Cost(nfe=20, classifier_rows=10, noise_s=0.25, purify_s=0.5, classify_s=0.125, peak_bytes=1 << 33, device="CPU")


def make_cell(purifier: str = "none", sigma: float = 0.5, **parameters: object) -> Cell:
    hashes = {"noise": "n", "purifier": "p"}
    return Cell(purifier, parameters, "cnn", {"path": "x"}, "mnist5k", "data", sigma, 0, "fp32", "cpu", hashes)


def make_counts(cell: Cell, image: int = 0, stage: str = "estimate", first: int = 0, votes=(7, 3)) -> Counts:
    return Counts(Block(cell.key, image, stage, first, sum(votes)), tuple(votes), COST)


def make_manifest(*cells: Cell) -> dict:
    return {"format": 1, "sweep": [cell.key for cell in cells], "labels": {"0": 3}}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A run of two cells, one of which failed, with its export beside the database."""
    cells = make_cell("none"), make_cell("pf-ode", steps=4)
    with Store(tmp_path / "run") as store:
        store.begin(cells, make_manifest(*cells))
        for cell, image, first in itertools.product(cells, (0, 83), (0, 10)):
            store.add([make_counts(cell, image, first=first, votes=(image % 7, 10 - image % 7))])
        store.add([make_counts(cells[0], 0, "select", votes=(4, 0))])
        store.fail(cells[1].key, "purifier 'pf-ode' returned values that are not finite")
    export(read_run(tmp_path / "run"))
    return tmp_path / "run"


def test_a_block_that_is_already_there_stays_as_it_was(tmp_path):
    cell = make_cell()
    with Store(tmp_path) as store:
        store.begin([cell], make_manifest(cell))
        store.add([make_counts(cell, votes=(7, 3))])
        store.add([make_counts(cell, votes=(0, 10)), make_counts(cell, first=10, votes=(1, 9))])
        assert store.tallies(cell.key)[0] == Tally({}, {0: (7, 3), 10: (1, 9)})
    assert len(read_run(tmp_path).blocks) == 2


def test_the_same_draws_of_another_cell_image_or_stage_are_another_block(tmp_path):
    cell, other = make_cell(), make_cell(sigma=0.25)
    with Store(tmp_path) as store:
        store.begin([cell, other], make_manifest(cell, other))
        store.add(
            [make_counts(cell), make_counts(other), make_counts(cell, image=1), make_counts(cell, stage="select")]
        )
        assert store.tallies(cell.key) == {0: Tally({0: (7, 3)}, {0: (7, 3)}), 1: Tally({}, {0: (7, 3)})}
        assert store.tallies(other.key) == {0: Tally({}, {0: (7, 3)})}


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_order_and_repetition_of_adding_gives_the_same_tallies(tmp_path_factory, data):
    cell = make_cell()
    places = list(itertools.product((0, 3), ("select", "estimate"), (0, 10, 20)))
    blocks = [make_counts(cell, *place, votes=(i, 10 - i % 10)) for i, place in enumerate(places)]
    once = data.draw(st.permutations(range(len(blocks))))
    more = data.draw(st.lists(st.sampled_from(range(len(blocks)))))
    parts = data.draw(st.integers(1, 5))
    order = [*more, *once]
    with Store(tmp_path_factory.mktemp("run")) as store:
        store.begin([cell], make_manifest(cell))
        for part in range(parts):
            store.add([blocks[i] for i in order[part::parts]])
        stored = store.tallies(cell.key)
    expected = {0: Tally({}, {}), 3: Tally({}, {})}
    for counts in blocks:
        getattr(expected[counts.block.image], counts.block.stage)[counts.block.first] = counts.votes
    assert stored == expected


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


def test_a_failure_is_recorded_for_its_cell_alone(run_folder):
    run = read_run(run_folder)
    failed = next(key for key, cell in run.cells.items() if cell.purifier == "pf-ode")
    assert run.errors == {failed: "purifier 'pf-ode' returned values that are not finite"}


def test_beginning_again_forgets_failures_and_keeps_counts(run_folder):
    cells = read_run(run_folder).cells
    with Store(run_folder) as store:
        store.begin(cells.values(), make_manifest(*cells.values()))
    run = read_run(run_folder)
    assert run.errors == {}
    assert len(run.blocks) == 9


def test_another_sweep_shows_its_own_cells_and_keeps_the_blocks_of_earlier_ones(run_folder):
    new = make_cell("none", sigma=0.25)
    with Store(run_folder) as store:
        store.begin([new], make_manifest(new))
        store.add([make_counts(new)])
    run = read_run(run_folder)
    assert list(run.cells) == [new.key]
    assert run.errors == {}
    assert len(run.blocks) == 10
    export(run)
    (run_folder / DATABASE).unlink()
    assert set(read_run(run_folder).blocks["cell"]) == {new.key}


def test_the_manifest_is_replaced_not_added_to(tmp_path):
    with Store(tmp_path) as store:
        store.begin([], {"seed": 1, "git": "abc"})
        store.describe({"seed": 2})
    assert read_run(tmp_path).manifest == {"seed": 2}


def test_counts_that_are_stored_survive_a_process_that_never_closes_its_store(tmp_path):
    cell = make_cell()
    store = Store(tmp_path)
    store.begin([cell], make_manifest(cell))
    store.add([make_counts(cell)])
    shutil.copytree(tmp_path, tmp_path / "as left by a kill")
    store.__exit__()
    assert len(read_run(tmp_path / "as left by a kill").blocks) == 1


def test_a_second_run_on_the_same_folder_is_refused_until_the_first_ends(tmp_path):
    with Store(tmp_path), pytest.raises(StoreError, match="another run is writing") as refusal:
        Store(tmp_path)
    assert str(tmp_path) in str(refusal.value) and "--out" in str(refusal.value)
    with Store(tmp_path):
        pass


def test_a_damaged_database_does_not_keep_the_folder_locked(tmp_path):
    (tmp_path / DATABASE).write_bytes(b"not a database at all, " * 100)
    with pytest.raises(StoreError):
        Store(tmp_path)
    (tmp_path / DATABASE).unlink()
    with Store(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written") as refusal:
        Store(tmp_path / "file" / "run")
    assert str(tmp_path / "file" / "run") in str(refusal.value) and "--out" in str(refusal.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes to read-only folders")
def test_a_read_only_folder_is_refused_by_name(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            Store(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_database_of_a_later_format_is_refused_for_reading_and_writing(run_folder):
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute("PRAGMA user_version = 3")
    db.close()
    for attempt in (Store, read_run):
        with pytest.raises(StoreError, match=r"run\.sqlite is of format 3.*update purifybench"):
            attempt(run_folder)
    db = sqlite3.connect(run_folder / DATABASE)
    assert db.execute("PRAGMA user_version").fetchone() == (3,)
    db.close()


def test_an_export_of_a_later_format_is_refused(run_folder):
    (run_folder / DATABASE).unlink()
    manifest = json.loads((run_folder / MANIFEST).read_text())
    (run_folder / MANIFEST).write_text(json.dumps({**manifest, "format": 2}))
    with pytest.raises(StoreError, match=r"manifest\.json is of format 2.*update purifybench"):
        read_run(run_folder)


@pytest.mark.parametrize("damage", [b"", b"not a database at all, " * 100])
def test_a_file_that_is_no_database_is_named_with_the_remedy(run_folder, damage):
    (run_folder / DATABASE).write_bytes(damage)
    with pytest.raises(StoreError, match=r"run\.sqlite is damaged.*bench doctor --repair"):
        read_run(run_folder)


def damage_pages(path: Path) -> None:
    """Overwrite all of a database but its header and schema."""
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xa5" * (len(content) - 4096))


def test_a_database_with_damaged_pages_is_named_with_the_remedy(run_folder):
    damage_pages(run_folder / DATABASE)
    with pytest.raises(StoreError, match=r"run\.sqlite is damaged.*bench doctor --repair"):
        read_run(run_folder)


def test_a_run_that_meets_damaged_pages_names_the_database(run_folder):
    cells = read_run(run_folder).cells.values()
    damage_pages(run_folder / DATABASE)

    def go_on():
        with Store(run_folder) as store:
            store.begin(cells, make_manifest(*cells))
            for cell in cells:
                store.tallies(cell.key)
            store.add([make_counts(cell, first=20) for cell in cells])

    with pytest.raises(StoreError, match=r"run\.sqlite is damaged.*bench doctor --repair"):
        go_on()


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
    manifest = json.loads((run_folder / MANIFEST).read_text())
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


def test_a_database_without_checksums_is_read_and_goes_on_with_them(run_folder):
    """As format 1 wrote them."""
    before = read_run(run_folder).blocks
    db = sqlite3.connect(run_folder / DATABASE)
    for table in ("blocks", "manifest"):
        db.execute(f"ALTER TABLE {table} DROP COLUMN crc")
    db.execute("PRAGMA user_version = 1")
    db.commit()
    db.close()
    assert read_run(run_folder).blocks.equals(before)
    cell = make_cell("none")
    with Store(run_folder) as store:
        assert store.tallies(cell.key)[0].estimate == {0: (0, 10), 10: (0, 10)}
        store.add([make_counts(cell, 5)])
    assert len(read_run(run_folder).blocks) == len(before) + 1
    db = sqlite3.connect(run_folder / DATABASE)
    assert db.execute("SELECT count(*), count(crc) FROM blocks").fetchone() == (len(before) + 1, 1)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()


def test_a_value_that_changed_on_the_disk_is_noticed_by_readers_and_writers(run_folder):
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute("UPDATE blocks SET votes = '[9, 1]' WHERE image = 83 AND first = 10")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"a block of image 83 is damaged; `bench doctor --repair"):
        read_run(run_folder)
    with Store(run_folder) as store, pytest.raises(StoreError, match="image 83"):
        store.tallies(make_cell("none").key)


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


def test_everything_that_decides_the_counts_is_in_the_key_and_the_order_of_parameters_is_not():
    cell = make_cell("pf-ode", steps=4, order=2)
    assert make_cell("pf-ode", order=2, steps=4).key == cell.key
    changes = {
        "purifier": "sde",
        "parameters": {"steps": 5, "order": 2},
        "classifier": "vit",
        "classifier_parameters": {"path": "y"},
        "dataset": "cifar10",
        "data_hash": "other",
        "sigma": 0.25,
        "seed": 1,
        "precision": "bf16",
        "device_type": "cuda",
        "hashes": {"noise": "n", "purifier": "q"},
    }
    assert set(changes) == {f.name for f in dataclasses.fields(Cell)}
    keys = {dataclasses.replace(cell, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {cell.key}) == len(changes) + 1
