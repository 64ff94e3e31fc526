"""What becomes of a results folder: full, taken by another run, of a later version, under a moving clock."""

from __future__ import annotations

import ast
import json
import os
import resource
import signal
import sqlite3
import time
from pathlib import Path

import pandas as pd
import pytest
from children import forked, in_a_child
from conftest import ROOT
from stored import PRESET, make_manifest

from bench.records import Block, Cell, Cost, Counts
from bench.store.database import _FORMAT, DATABASE, StoreError
from bench.store.repair import repair
from bench.store.run import MANIFEST, export, read_run
from bench.store.store import Store

OK, REFUSED = 0, 2
CELL = Cell("none", {}, "cnn", {}, "mnist5k", "data", 0.5, 0, "fp32", "cpu", {"noise": "n"})


def blocks(images: range, draws: int = 10) -> list[Counts]:
    cost = Cost(0, draws, 0.25, 0.5, 0.125, 1 << 30, "CPU")
    return [Counts(Block(CELL.key, i, "estimate", 0, draws), (i % draws, draws - i % draws), cost) for i in images]


def begin(store: Store, images: int = 4) -> None:
    store.begin([CELL], make_manifest(CELL, labels={str(i): i for i in range(images)}))


@forked
def test_a_disk_that_takes_no_more_ends_a_run_and_keeps_what_was_stored(tmp_path: Path) -> None:
    """A limit on the size of files, which the system enforces at every write, is a disk that fills up."""
    folder = tmp_path / "run"
    with Store(folder) as store:
        begin(store, 100)
        store.add(blocks(range(100)))

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
        with Store(folder) as store:
            for start in range(100, 1_000_000, 100):
                store.add(blocks(range(start, start + 100)))

    kind, said = in_a_child(fill)
    assert kind is StoreError and str(folder / DATABASE) in said and "the same command continues" in said
    stored = read_run(folder).blocks["image"].tolist()
    assert stored == list(range(len(stored))) and len(stored) >= 100 and len(stored) % 100 == 0  # whole transactions
    with Store(folder) as store:
        store.add(blocks(range(len(stored), len(stored) + 100)))
    assert len(read_run(folder).blocks) == len(stored) + 100


@forked
def test_a_disk_that_takes_no_exports_refuses_them_and_the_next_attempt_has_all(tmp_path, cli, tiny_preset) -> None:
    path, folder = tiny_preset(purifiers=["none"]), tmp_path / "out"
    assert cli("run", path, "--out", folder, "--no-plots").exit_code == OK
    exported = {name: (folder / name).read_bytes() for name in ("counts.parquet", "summary.csv")}
    for name in ("counts.parquet", MANIFEST, "summary.csv"):
        (folder / name).unlink()

    def again() -> tuple[int, str]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
        result = cli("run", path, "--out", folder, "--no-plots")
        return result.exit_code, result.stderr

    status, said = in_a_child(again)
    assert status == REFUSED and str(folder) in said and "same command" in said
    assert cli("run", path, "--out", folder, "--no-plots").exit_code == OK
    assert {name: (folder / name).read_bytes() for name in exported} == exported


@forked
def test_a_folder_is_free_again_when_the_run_that_held_it_is_killed(tmp_path: Path, cli, tiny_preset) -> None:
    path, folder = tiny_preset(purifiers=["none"]), tmp_path / "out"
    child = os.fork()
    if not child:
        store = Store(folder)
        begin(store)
        store.add(blocks(range(2)))
        (tmp_path / "held").touch()
        time.sleep(600)
    deadline = time.monotonic() + 60
    while not (tmp_path / "held").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    refused = cli("run", path, "--out", folder, "--no-plots")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert refused.exit_code == REFUSED and "another run is writing" in refused.stderr and "--out" in refused.stderr
    assert cli("run", path, "--out", folder, "--no-plots").exit_code == OK
    assert len(read_run(folder).blocks.query("cell == @CELL.key")) == 2  # what the killed one had stored


@pytest.mark.parametrize("command", ["run", "summary", "plot", "report", "tables", "compare", "doctor --repair"])
def test_results_of_a_later_version_are_refused_by_every_command_and_left_alone(
    tmp_path: Path, cli, tiny_preset, command: str
) -> None:
    folder = tmp_path / "out"
    with Store(folder) as store:
        begin(store)
        store.add(blocks(range(4)))
    db = sqlite3.connect(folder / DATABASE)
    db.execute(f"PRAGMA user_version = {_FORMAT + 1}")
    db.close()
    before = (folder / DATABASE).read_bytes()
    arguments = {"run": (tiny_preset(), "--out", folder), "compare": (folder, folder)}.get(command, (folder,))
    result = cli(*command.split(), *arguments)
    assert result.exit_code == REFUSED
    assert f"is of format {_FORMAT + 1}" in result.stderr and "update purifybench" in result.stderr
    assert (folder / DATABASE).read_bytes() == before


def test_a_certifier_of_a_later_version_is_refused_by_name(tmp_path: Path, cli) -> None:
    with Store(tmp_path) as store:
        begin(store)
        store.add(blocks(range(4)))
        store.describe({**store.manifest(), "preset": {**PRESET, "certifier": "oracle"}})
    for command in ("summary", "report", "plot"):
        result = cli(command, tmp_path)
        assert result.exit_code == REFUSED and "oracle" in result.stderr


def test_a_repair_leaves_a_later_version_alone(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        begin(store)
    db = sqlite3.connect(tmp_path / DATABASE)
    db.execute(f"PRAGMA user_version = {_FORMAT + 1}")
    db.close()
    with pytest.raises(StoreError, match="update purifybench"):
        repair(tmp_path)
    assert not (tmp_path / "repair").exists()


def votes(folder: Path) -> list[tuple]:
    found = read_run(folder).blocks.sort_values(["cell", "image", "stage", "first"])
    return [(*row, tuple(v)) for *row, v in found[["cell", "image", "stage", "first", "votes"]].values.tolist()]


def test_a_clock_that_moves_backwards_changes_no_count(tmp_path: Path, cli, tiny_preset, monkeypatch) -> None:
    """Every look at the wall clock is a day before the last one, in both parts of a run."""
    from datetime import datetime, timedelta

    path = tiny_preset(purifiers=["none", "ddpm:steps=2"])
    assert cli("run", path, "--out", tmp_path / "steady", "--n", 40, "--no-plots").exit_code == OK
    looks = iter(range(1, 10_000))

    class Backwards(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2026, 1, 1, tzinfo=tz) - timedelta(days=next(looks))

    monkeypatch.setattr("bench.sweep.plan.datetime", Backwards)
    monkeypatch.setattr("bench.sweep.run.datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: -86400.0 * next(looks))
    monkeypatch.setattr(time, "time_ns", lambda: -86400 * 10**9 * next(looks))
    for n in (20, 40):
        assert cli("run", path, "--out", tmp_path / "moved", "--n", n, "--no-plots").exit_code == OK
    manifest = json.loads((tmp_path / "moved" / MANIFEST).read_text())
    assert manifest["ended"] < manifest["started"] < manifest["sessions"][0]["started"]  # it did move
    totals = [{}, {}]
    for total, name in zip(totals, ("steady", "moved"), strict=True):
        for cell, image, stage, _, counted in votes(tmp_path / name):
            before = total.setdefault((cell, image, stage), (0,) * len(counted))
            total[cell, image, stage] = tuple(map(sum, zip(before, counted, strict=True)))
    assert totals[0] == totals[1]
    for name in ("summary", "report"):
        assert cli(name, tmp_path / "moved").exit_code == OK


def test_only_manifests_look_at_the_wall_clock() -> None:
    wall = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
    looking = set()
    for path in sorted((ROOT / "bench").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            if named and (node.value.id, node.attr) in wall:
                looking.add(path.relative_to(ROOT).as_posix())
    assert looking == {
        *("bench/sweep/plan.py", "bench/sweep/run.py"),
        *("bench/engine/tuning/cache.py", "bench/gpu/race.py"),  # the dates of measurements of speed
        "bench/verify/record.py",  # the date of a recount
    }


def test_a_preset_that_was_edited_goes_on_with_what_it_still_asks_for(tmp_path: Path, cli, tiny_preset) -> None:
    """Cells that stay keep their counts, cells that are new begin, those that are gone are kept and not shown."""
    folder = tmp_path / "out"
    first = tiny_preset(purifiers=["none", "onestep-edm"], n=20)
    assert cli("run", first, "--out", folder, "--no-plots").exit_code == OK
    before = votes(folder)
    edited = tiny_preset(purifiers=["onestep-edm", "ddpm:steps=2"], sigmas=[0.5, 0.25], n=40, radii=[0.0], batch=7)
    assert edited == first
    result = cli("run", edited, "--out", folder, "--no-plots")
    assert result.exit_code == OK
    assert "kept but not shown, cells of other sweeps or earlier code: 1" in " ".join(result.stdout.split())
    assert set(before) < set(votes(folder))
    assert cli("run", edited, "--out", tmp_path / "at once", "--no-plots").exit_code == OK
    columns = ["name", "sigma", "images", "acr", "acc@0", "abstained"]
    tables = [
        [{c: row[c] for c in columns} for row in json.loads(cli("summary", f, "--json").stdout)["rows"]]
        for f in (folder, tmp_path / "at once")
    ]
    assert tables[0] == tables[1] and len(tables[0]) == 4


def test_an_export_that_fails_half_way_leaves_the_earlier_one_whole(tmp_path: Path, monkeypatch) -> None:
    with Store(tmp_path) as store:
        begin(store)
        store.add(blocks(range(4)))
    export(read_run(tmp_path))
    before = (tmp_path / "counts.parquet").read_bytes()

    def torn(self, file, **_):
        file.write(b"PAR1 half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", torn)
    with pytest.raises(OSError, match="No space"):
        export(read_run(tmp_path))
    assert (tmp_path / "counts.parquet").read_bytes() == before
