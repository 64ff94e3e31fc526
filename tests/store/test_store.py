"""The database of a run: each block once, faults named with their remedy."""

from __future__ import annotations

import dataclasses
import itertools
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import make_cell, make_counts, make_manifest

from bench.certify.base import Tally
from bench.records import Cell
from bench.store.database import _FORMAT, DATABASE, StoreError
from bench.store.run import export, read_run
from bench.store.store import Store


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


@settings(max_examples=25)
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
        stored = dict(store.tallies(cell.key))
    expected = {0: Tally({}, {}), 3: Tally({}, {})}
    for counts in blocks:
        getattr(expected[counts.block.image], counts.block.stage)[counts.block.first] = counts.votes
    assert stored == expected


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
        store.begin([], make_manifest(git="abc", data="first"))
        store.describe(second := make_manifest(data="second"))
    assert read_run(tmp_path).manifest == second


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


def test_a_database_of_a_later_format_is_refused_for_reading_and_writing(run_folder):
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute(f"PRAGMA user_version = {_FORMAT + 1}")
    db.close()
    for attempt in (Store, read_run):
        with pytest.raises(StoreError, match=rf"run\.sqlite is of format {_FORMAT + 1}.*update purifybench"):
            attempt(run_folder)
    db = sqlite3.connect(run_folder / DATABASE)
    assert db.execute("PRAGMA user_version").fetchone() == (_FORMAT + 1,)
    db.close()


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
                dict(store.tallies(cell.key))
            store.add([make_counts(cell, first=20) for cell in cells])

    with pytest.raises(StoreError, match=r"run\.sqlite is damaged.*bench doctor --repair"):
        go_on()


def test_a_value_that_changed_on_the_disk_is_noticed_by_readers_and_writers(run_folder):
    db = sqlite3.connect(run_folder / DATABASE)
    db.execute("UPDATE blocks SET votes = '[9, 1]' WHERE image = 83 AND first = 10")
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=r"a block of image 83 is damaged; `bench doctor --repair"):
        read_run(run_folder)
    with Store(run_folder) as store, pytest.raises(StoreError, match="image 83"):
        dict(store.tallies(make_cell("none").key))


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
        "compute": {"channels_last": True},
        "versions": {"engine": 2},
        "split": "val",
        "noise": "discrete",
    }
    assert set(changes) == {f.name for f in dataclasses.fields(Cell)} - {
        "own_classifier",
        "by_sigma",
    }  # these are for the label
    keys = {dataclasses.replace(cell, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {cell.key}) == len(changes) + 1


def test_what_was_added_is_synced_no_more_often_than_once_a_second(tmp_path, monkeypatch):
    cell, now, synced = make_cell(), 100.0, []
    monkeypatch.setattr("bench.store.store.time.monotonic", lambda: now)
    with Store(tmp_path) as store:
        store.begin([cell], {})
        for k, now in enumerate((100.0, 100.4, 100.9, 101.1, 101.2, 109.0, 109.5)):  # noqa: B007
            store.add([make_counts(cell, k)])
            synced.append(store._db.execute("PRAGMA synchronous").fetchone() == (2,))
        assert store.size() == 7
    assert synced == [True, False, False, True, False, True, False]
