"""A results folder that may not be written, or not be read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from children import forked, in_a_child
from stored import make_cell, make_counts, make_manifest

from bench.store.database import DATABASE, StoreError
from bench.store.run import read_run
from bench.store.store import Store

OK, REFUSED = 0, 2
CELL = make_cell()


def begin(store: Store, images: int = 4) -> None:
    store.begin([CELL], make_manifest(CELL, labels={str(i): i for i in range(images)}))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where a run goes; it may be removed afterwards, whatever became of its permissions."""
    yield tmp_path / "run"
    (tmp_path / "run").chmod(0o755)


def read_only(folder: Path) -> Path:
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    return folder


@forked
def test_a_finished_run_is_read_from_a_read_only_folder(folder: Path) -> None:
    with Store(folder) as store:
        begin(store)
        store.add([make_counts(CELL, image) for image in range(4)])
    before = set(read_only(folder).iterdir())
    images = in_a_child(lambda: read_run(folder).blocks["image"].tolist())
    assert images == [0, 1, 2, 3]
    assert set(folder.iterdir()) == before


@forked
def test_a_killed_run_is_read_from_a_read_only_folder_with_all_that_its_journal_holds(
    tmp_path: Path, folder: Path
) -> None:
    with Store(tmp_path / "running") as store:
        begin(store)
        store.add([make_counts(CELL, image) for image in range(4)])
        shutil.copytree(tmp_path / "running", folder)
    assert (folder / f"{DATABASE}-wal").stat().st_size > 0
    (folder / f"{DATABASE}-shm").unlink()
    before = set(read_only(folder).iterdir())
    assert in_a_child(lambda: read_run(folder).blocks["image"].tolist()) == [0, 1, 2, 3]
    assert set(folder.iterdir()) == before


@forked
def test_a_read_only_folder_is_read_by_every_command_and_written_by_none(folder: Path, cli, tiny_preset) -> None:
    path = tiny_preset(purifiers=["none"])
    assert cli("run", path, "--out", folder, "--no-plots").exit_code == OK
    read_only(folder)
    writing = [("run", path, "--out", folder), ("plot", folder), ("report", folder), ("tables", folder)]

    def commands() -> list[tuple[int, str]]:
        results = [cli(*command) for command in (("summary", folder), *writing, ("doctor", "--repair", folder))]
        return [(result.exit_code, result.stderr) for result in results]

    summary, *refusals = in_a_child(commands)
    assert summary[0] == OK, summary
    assert [status for status, _ in refusals] == [REFUSED] * 5, refusals
    assert all("--out" in said for _, said in refusals[:4]), refusals
    assert "repair a copy of it" in refusals[4][1]


@forked
def test_a_database_that_may_not_be_written_is_not_called_damaged(folder: Path) -> None:
    with Store(folder) as store:
        begin(store)
    (folder / DATABASE).chmod(0o444)
    kind, said = in_a_child(lambda: Store(folder))
    assert kind is StoreError and "cannot be written" in said and "--out" in said and "damaged" not in said


@forked
def test_a_folder_that_may_not_be_read_is_named(folder: Path) -> None:
    with Store(folder) as store:
        begin(store)
    for locked, remedy in ((folder / DATABASE, "allow reading"), (folder, "allow reading")):
        locked.chmod(0o000)
        kind, said = in_a_child(lambda: read_run(folder))
        assert kind is StoreError and remedy in said and "damaged" not in said
