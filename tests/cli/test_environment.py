"""Terminals, limits and folders that fail under a command: the work is done all the same, or refused in one line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest
from command import OK, REFUSED, counts_of, refused, run
from conftest import ROOT
from stored import make_cell, make_counts, make_manifest

from bench.cli.shell import app, limit_of
from bench.store.database import StoreError
from bench.store.store import Store
from classifiers.base import ClassifierError
from classifiers.hub import model_files
from purifiers.nets.hub.cards import WeightsError
from purifiers.nets.hub.sources import find


def full(folder):
    return open("/dev/full", "w")


def without_reader(folder):
    reading, writing = os.pipe()
    os.close(reading)
    return os.fdopen(writing, "w")


def ascii_only(folder):
    return (folder / "said").open("w", encoding="ascii")


def closed(folder):
    return None  # as Python has it for `>&-`


STREAMS = [(full, REFUSED), (without_reader, OK), (ascii_only, OK), (closed, OK)]


@pytest.mark.parametrize(("stream", "status"), STREAMS, ids=lambda value: getattr(value, "__name__", None))
def test_counts_and_exports_are_complete_whatever_becomes_of_the_terminal(
    cli, tiny_preset, tmp_path, monkeypatch, capfd, stream, status
):
    preset = tiny_preset()
    assert run(cli, preset, "--out", tmp_path / "undisturbed").exit_code == OK
    terminal = stream(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", terminal)
        with pytest.raises(SystemExit) as ended:
            app(["run", str(preset), "--out", str(tmp_path / "run"), "--no-plots"])
    if terminal is not None:
        terminal.close()
    assert ended.value.code == status
    assert counts_of(tmp_path / "run") == counts_of(tmp_path / "undisturbed")
    for name in ("manifest.json", "counts.parquet", "summary.csv", "examples.npz"):
        assert (tmp_path / "run" / name).is_file(), name
    said = [line for line in capfd.readouterr().err.splitlines() if "reads files outside" not in line]
    line = "error: the output could not be written (No space left on device); files of this command are complete"
    assert said == ([line] if status == REFUSED else [])
    if stream is ascii_only:
        assert "\\u03c3" in (tmp_path / "said").read_text()  # sigma, escaped


def in_shell(line):
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)


def test_closed_streams_are_no_error():
    assert in_shell(f"{sys.executable} -m bench --version >&- 2>&- <&-").returncode == OK
    assert in_shell(f"{sys.executable} -m bench --version >&-").stderr == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not enforce this limit")
def test_a_limit_of_memory_with_which_nothing_can_start_is_refused_in_one_line():
    result = in_shell(f"ulimit -v 400000; {sys.executable} -m bench summary results/embedded")
    assert result.returncode == REFUSED and "ulimit -v" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (OSError(24, "Too many open files"), "ulimit -n"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "ulimit -v"),
        (MemoryError(), "ulimit -v"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (OSError(28, "No space left on device"), "make room"),
    ],
    ids=str,
)
def test_a_limit_that_a_command_meets_is_one_line_with_the_remedy(cli, tmp_path, monkeypatch, error, remedy):
    def broken(*_):
        raise error

    monkeypatch.setattr("bench.api.runs.load", broken)
    said = refused(cli("summary", tmp_path))
    assert remedy in said and len(said.splitlines()) == 1


def test_a_mistake_in_the_code_is_no_limit():
    assert limit_of(RuntimeError("unsupported memory format option Contiguous")) is None


@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be removed there")
def test_a_folder_that_is_removed_ends_the_run_at_the_next_block(tmp_path, replaced):
    cell = make_cell()
    with Store(tmp_path / "run") as store:
        store.begin([cell], make_manifest(cell))
        store.add([make_counts(cell)])
        shutil.move(tmp_path / "run", tmp_path / "moved")
        if replaced:
            shutil.copytree(tmp_path / "moved", tmp_path / "run")
        with pytest.raises(StoreError, match=r"run\.sqlite was removed, moved or replaced"):
            store.add([make_counts(cell, first=10)])
    assert len(counts_of(tmp_path / "moved")) == 1


@pytest.mark.parametrize("sigma", ["1e300", "-1e300", "1e-300", "inf"])
def test_a_sigma_that_no_network_can_see_is_refused_by_name(cli, tiny_preset, tmp_path, sigma):
    said = refused(cli("run", tiny_preset(), f"--sigmas={sigma}", "--out", tmp_path / "run"))
    assert "sigmas" in said and sigma in said and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "name", ["-x/-y", "a--b/c", "a/b.git", "a/b.", "a/.b", "a/b@../../x", "a/b@-x", "a/" + "b" * 97]
)
def test_what_cannot_be_a_hub_id_is_refused_by_name(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PURIFYBENCH_CLASSIFIERS", str(tmp_path))
    with pytest.raises(WeightsError, match="no network") as refusal:
        find(name)
    assert name in str(refusal.value)
    with pytest.raises(ClassifierError) as refusal:
        model_files(name, [["config.json"]], download=False)
    assert name in str(refusal.value)
