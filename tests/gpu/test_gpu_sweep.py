"""A sweep with a time limit: it ends after its running batches, exports, and goes on from what it returned."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from command import OK, counts_of, refused, run

from bench.gpu.archive import unpack
from bench.store.database import DATABASE
from bench.store.store import Store
from bench.sweep import run as run_module
from bench.sweep import stop

TIME_OVER, INTERRUPTED = 75, 130


@contextmanager
def short_minutes():
    """Inside, a sweep looks at its clock three times until a time limit of one minute is over."""
    clock = SimpleNamespace(monotonic=itertools.count(step=20).__next__)
    with pytest.MonkeyPatch.context() as patch:
        for module in (run_module, stop):
            patch.setattr(module, "time", clock)
        yield


@pytest.fixture
def whole(cli, tiny_preset, tmp_path):
    """The preset, and the counts of its undisturbed run."""
    preset = tiny_preset(images=8)
    assert run(cli, preset, "--batch", 16, "--out", tmp_path / "whole").exit_code == OK
    return preset, counts_of(tmp_path / "whole")


def sweep(cli, preset, tmp_path, *arguments):
    folders = ["--out", tmp_path / "run", "--archive", tmp_path / "archive"]
    return cli("gpu", "sweep", preset, "--minutes", 1, "--batch", 16, *folders, *arguments)


def test_a_sweep_goes_on_from_its_archive_to_the_counts_of_an_undisturbed_one(cli, whole, tmp_path):
    preset, counts = whole
    with short_minutes():
        result = sweep(cli, preset, tmp_path)
    assert result.exit_code == TIME_OVER, result.output
    assert "the time is over" in result.output and "the same command continues" in result.output
    part = counts_of(tmp_path / "run")
    assert part and part.items() < counts.items()
    shutil.rmtree(tmp_path / "run")
    assert unpack(tmp_path / "archive", "sweep", tmp_path / "returned")
    assert counts_of(tmp_path / "returned") == part  # in parquet: the database stays behind
    assert not (tmp_path / "returned" / DATABASE).exists()
    result = sweep(cli, preset, tmp_path)
    assert result.exit_code == OK, result.output
    assert "continues from" in result.output
    assert counts_of(tmp_path / "run") == counts
    assert unpack(tmp_path / "archive", "sweep", tmp_path / "finished")
    assert counts_of(tmp_path / "finished") == counts
    assert (tmp_path / "finished" / "summary.csv").is_file()
    assert all(path.stat().st_size < 16 * 2**20 for path in (tmp_path / "archive").iterdir())


def test_a_sweep_that_is_interrupted_returns_its_counts_too(cli, whole, tmp_path, monkeypatch):
    add = Store.add

    def interrupted(store, counts):
        add(store, counts)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Store, "add", interrupted)
    result = sweep(cli, whole[0], tmp_path)
    assert result.exit_code == INTERRUPTED, result.output
    assert unpack(tmp_path / "archive", "sweep", tmp_path / "returned")
    assert counts_of(tmp_path / "returned").items() < whole[1].items()
    assert counts_of(tmp_path / "returned") == counts_of(tmp_path / "run")


def test_a_time_that_is_over_before_the_first_batch_leaves_a_run_that_continues(cli, whole, tmp_path):
    preset, counts = whole
    first = run(cli, preset, "--batch", 16, "--minutes", 0, "--out", tmp_path / "run")
    assert first.exit_code == TIME_OVER, first.output
    assert run(cli, preset, "--batch", 16, "--out", tmp_path / "run").exit_code == OK
    assert counts_of(tmp_path / "run") == counts


def test_a_refused_sweep_loses_nothing_of_the_archive(cli, whole, tmp_path):
    preset, _ = whole
    assert sweep(cli, preset, tmp_path).exit_code == OK
    shutil.rmtree(tmp_path / "run")
    refused(sweep(cli, preset, tmp_path, "--purifiers", "no-such"))
    assert unpack(tmp_path / "archive", "sweep", tmp_path / "returned")
    assert counts_of(tmp_path / "returned") == whole[1]


def test_a_folder_without_an_archive_is_refused_by_name(cli, tmp_path):
    assert "holds no archive" in refused(cli("gpu", "unpack", tmp_path, tmp_path / "out"))
