"""Every file of a run is in a list of checksums, which every reader checks and every writer keeps."""

from __future__ import annotations

import random
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from drawn import synthetic_examples
from stored import make_cell, make_manifest, make_run

import purifybench as pb
from bench.store import checksums, read_examples, write_examples
from bench.store.attacks import Attacks, read_attacks, write_attacks
from bench.store.checksums import SUMS, differences, list_files, listed
from bench.store.database import DATABASE, StoreError
from bench.store.imported import import_log
from bench.store.quality import Metrics, read_metrics, write_metrics
from bench.store.run import MANIFEST, PARQUET, PUBLISHED, export, read_manifest, read_run
from bench.store.store import Store

RUNS = sorted(path.parent for path in (ROOT / "results").rglob(MANIFEST) if "runs" not in path.parts)
SMALL = ROOT / "results" / "seeds" / "digits-1"
ATTACKS = Attacks("PGD", images=3, restarts=1, rounds=1, draws=10, level=0.01, alpha=0.001, made={})
METRICS = Metrics(2, 1, {}, {}, {})


def fill(folder):
    """Every file of a run that commands read."""
    log = folder / "log.txt"
    log.write_text("idx label predict radius correct\n0 1 1 0.2 1\n")
    import_log(log, folder, "log", "mnist5k", 0.5, 1.0, 1000, 0.001)
    log.unlink()
    write_metrics(folder, METRICS)
    write_attacks(folder, ATTACKS)
    write_examples(folder, synthetic_examples(["none"]))


@pytest.fixture
def folder(run_folder):
    """A run of exports, with every file that commands read."""
    fill(run_folder)
    for file in run_folder.glob(f"{DATABASE}*"):
        file.unlink()
    return run_folder


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def read(folder):
    return read_run(folder), read_metrics(folder), read_attacks(folder), read_examples(folder)


@pytest.mark.parametrize("run", RUNS, ids=lambda path: path.relative_to(ROOT / "results").as_posix())
def test_a_committed_run_lists_every_file_as_it_is(run):
    """After a change of a run by hand, `python -m bench checksums RUN` lists its files."""
    assert (run / SUMS).is_file() and differences(run) == ([], [])
    assert not read_run(run).remarks


def test_writers_list_what_they_write_and_standard_tools_check_it(folder):
    names = {MANIFEST, PARQUET, PUBLISHED, "metrics.json", "attack.json", "examples.npz"}
    assert set(listed(folder)) == names and differences(folder) == ([], [])
    if shutil.which("sha256sum"):
        done = subprocess.run(["sha256sum", "-c", SUMS], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.count(": OK") == len(names)
    assert not read(folder)[0].remarks


@pytest.mark.parametrize("name", [MANIFEST, PARQUET, PUBLISHED, "metrics.json", "attack.json", "examples.npz"])
def test_no_reader_believes_a_file_with_a_flipped_bit(folder, name):
    content, rng = (folder / name).read_bytes(), random.Random(0)
    for _ in range(20):
        flip(folder / name, rng)
        with pytest.raises(StoreError, match=rf"{name} changed since SHA256SUMS was written.*bench checksums"):
            read(folder)
        (folder / name).write_bytes(content)


def test_a_flipped_bit_of_the_list_is_refused_or_noted(folder):
    content, rng = (folder / SUMS).read_bytes(), random.Random(0)
    for _ in range(100):
        flip(folder / SUMS, rng)
        try:
            said = " ".join(read(folder)[0].remarks)  # another name in it leaves a file without a checksum
        except StoreError as error:
            said = str(error)
        assert SUMS in said
        (folder / SUMS).write_bytes(content)


def test_a_missing_file_is_refused_or_noted(folder):
    for name in ("metrics.json", "examples.npz"):
        (folder / name).unlink()
    assert read_metrics(folder) is None
    assert "examples.npz, metrics.json of SHA256SUMS are missing" in " ".join(read_run(folder).remarks)
    (folder / PUBLISHED).unlink()
    with pytest.raises(StoreError, match=r"published\.csv is missing.*bench checksums"):
        read_run(folder)


def test_a_folder_without_a_list_is_read_with_a_note_that_every_answer_shows(cli, tmp_path):
    run = shutil.copytree(SMALL, tmp_path / "run")
    (run / SUMS).unlink()
    note = "manifest.json, counts.parquet are not in SHA256SUMS"
    for command in ("summary", "recommend --radius 0.25", "compare"):
        other = [run] if command == "compare" else []
        done = cli(*command.split(), run, *other)
        assert note in " ".join(done.output.split()), command
    for command in ("report", "tables"):
        assert cli(command, run).exit_code == 0
    assert note in " ".join((run / "report.html").read_text().split())
    assert note in " ".join((run / "tables" / "table-sigma-0.5.md").read_text().split())
    assert not (run / SUMS).exists()
    assert cli("checksums", run).exit_code == 0
    assert not read_run(run).remarks and "tables/table-sigma-0.5.md" in listed(run)


def test_a_file_that_a_stranger_adds_is_noted(folder):
    (folder / "metrics.json").unlink()
    list_files(folder)
    (folder / "metrics.json").write_text("{}")
    assert read_run(folder).remarks == (
        "metrics.json is not in SHA256SUMS, so damage may go unnoticed; `bench checksums` lists files as they are",
    )


def test_writing_one_file_does_not_make_the_damage_of_another_legitimate(folder):
    flip(folder / PARQUET, random.Random(1))
    write_metrics(folder, replace(METRICS, images=3))
    assert differences(folder)[0] == ["counts.parquet is not the file of SHA256SUMS"]
    assert read_metrics(folder).images == 3


def test_a_writer_that_is_killed_leaves_files_that_are_noted_and_not_refused(folder):
    def killed():
        with checksums.relisted(folder, "metrics.json"):
            (folder / "metrics.json").write_text((folder / "metrics.json").read_text() + " ")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        killed()
    assert read_metrics(folder) == METRICS
    assert "metrics.json is not in" in read_run(folder).remarks[0]


def test_a_running_and_an_interrupted_run_need_no_list(tmp_path, run_folder):
    with Store(tmp_path / "new") as store:
        store.begin([make_cell()], make_manifest(make_cell(), labels={}))
        assert not read_run(tmp_path / "new").remarks
    with Store(run_folder) as store:  # a later session, whose counts are not exported yet
        store.describe({**store.manifest(), "started": "later"})
        assert not read_run(run_folder).remarks
    flip(run_folder / PARQUET, random.Random(0))  # not read beside the database, and written anew from it
    export(read_run(run_folder))
    assert differences(run_folder) == ([], [])


@pytest.mark.parametrize(
    "text", ["", "no line of sha256sum\n", "0" * 64 + "  a\n" + "0" * 64 + "  a\n", "x" * (2 << 20), "\0" * 70]
)
def test_a_damaged_list_is_refused_with_the_remedy(folder, text):
    (folder / SUMS).write_text(text)
    with pytest.raises(StoreError, match=r"SHA256SUMS .*bench checksums"):
        read_run(folder)


def test_verify_tells_of_every_file_that_changed(tmp_path):
    run = shutil.copytree(SMALL, tmp_path / "run")
    for name in ("pareto.svg", "quality.png"):
        (run / name).write_text("a picture")
    list_files(run)
    (run / "pareto.svg").write_text("another picture")
    (run / "quality.png").unlink()
    (run / "more.txt").write_text("")
    found = pb.verify(run, counts=False)
    assert found.status == "not reproduced"
    assert set(found.problems) >= {"pareto.svg is not the file of SHA256SUMS", "quality.png of SHA256SUMS is missing"}
    assert any("1 files are not in SHA256SUMS: more.txt" in note for note in found.notes)


def test_pictures_tables_and_reports_are_listed_and_the_database_is_not(tmp_path, cli):
    run = shutil.copytree(SMALL, tmp_path / "run")
    for command in (("plot", "--formats", "svg"), ("report",), ("tables",)):
        assert cli(command[0], run, *command[1:]).exit_code == 0
    assert {"report.html", "tables/table-sigma-0.5.md", "pareto.svg"} <= set(listed(run))
    assert differences(run) == ([], [])
    other = make_run(tmp_path / "other")
    list_files(other)
    assert DATABASE not in listed(other) and np.size(list(listed(other))) == 2


@pytest.mark.parametrize("listed_too", [True, False])
@pytest.mark.parametrize("keep", [(), (PARQUET,), ("metrics.json",), ("attack.json",), ("examples.npz",)])
def test_a_run_that_lost_its_manifest_is_no_folder_of_imported_logs(folder, listed_too, keep):
    """The logs would otherwise be all of its rows."""
    for name in {MANIFEST, PARQUET, "metrics.json", "attack.json", "examples.npz"} - {*keep}:
        (folder / name).unlink()
    if not listed_too:
        (folder / SUMS).unlink()
    if listed_too or keep:
        for reader in (read_run, read_manifest):
            with pytest.raises(StoreError, match=r"manifest\.json is missing"):
                reader(folder)
    else:
        assert not read_run(folder).cells and read_manifest(folder) == {}
