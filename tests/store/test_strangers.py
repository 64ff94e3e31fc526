"""A results folder may be a stranger's: it leads no write elsewhere, fills no memory, and wrong types are named."""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stored import PRESET, closed_run, make_cell, make_counts, make_manifest, make_run

from bench import files
from bench.certify.rules import of_sweep
from bench.errors import InputError
from bench.store import votes
from bench.store.checksums import SUMS
from bench.store.database import COLUMNS, DATABASE, StoreError, checked
from bench.store.run import MANIFEST, PARQUET, PUBLISHED, export, read_manifest, read_published, read_run

OUT = "outside.txt"  # beside the folder: a file of the reader, to which links lead


def sent(folder: Path, **changes: object) -> Path:
    """A folder with a database alone, whose manifest was changed and got a right checksum."""
    cell = make_cell()

    def fill(store):
        store.begin([cell], {**make_manifest(cell), "preset": PRESET, **changes})
        store.add([make_counts(cell, stage="select", votes=(3, 1)), make_counts(cell)])

    return closed_run(folder, fill)


def edited(folder: Path, *statements: str) -> Path:
    db = sqlite3.connect(folder / DATABASE)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()
    return folder


@pytest.mark.parametrize(
    ("command", "links"),
    [
        (["report", "RUN"], ["report.html", "report.html.part"]),
        (["plot", "RUN", "--formats", "svg"], ["pareto.svg", "accuracy-vs-radius.svg"]),
        (["tables", "RUN"], ["tables/table-radius-0.md", "tables/table-sigma-0.5.tex"]),
        (
            ["import", "LOG", "--sigma", "0.5", "--name", "x", "--dataset", "d", "--out", "RUN"],
            ["published.part", PUBLISHED],
        ),
    ],
    ids=lambda value: value[0],
)
def test_no_command_writes_through_a_link(tmp_path, cli, command, links):
    run, outside = sent(tmp_path / "run", ended="2026"), tmp_path / OUT
    (tmp_path / "log.tsv").write_text("idx\tlabel\tpredict\tradius\tcorrect\n0\t1\t1\t0.5\t1\n")
    outside.write_text("precious")
    for name in links:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).symlink_to(outside)
    words = [word.replace("RUN", str(run)).replace("LOG", str(tmp_path / "log.tsv")) for word in command]
    result = cli(*words)
    assert outside.read_text() == "precious", result.output
    # An import reads the logs that are there, and refuses what is none.
    assert result.exit_code == (2 if command[0] == "import" else 0), result.output


def test_folders_of_a_run_that_are_links_are_refused(tmp_path, cli):
    run, elsewhere = sent(tmp_path / "run"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (run / "tables").symlink_to(elsewhere)
    result = cli("tables", run)
    assert result.exit_code == 2 and "tables is a link" in result.stderr
    (run / "repair").symlink_to(elsewhere)
    edited(run, "UPDATE blocks SET crc = 1 WHERE stage = 'select'")
    (elsewhere / DATABASE).write_text("precious")
    assert cli("doctor", "--repair", run).exit_code == 0
    assert [path.name for path in elsewhere.iterdir()] == [DATABASE]
    assert (elsewhere / DATABASE).read_text() == "precious" and len(read_run(run).blocks) == 1


def test_a_view_in_the_place_of_a_table_is_neither_read_nor_repaired(tmp_path, cli):
    """Every row of it has a right checksum, and there is always another one."""
    run = sent(tmp_path)
    row = checked((make_cell().key, 0, "select", 0, 1, "[1, 0]", 1, 1, 0.5, 0.5, 0.5, 1, "CPU"))
    values = ", ".join(map(repr, row))
    endless = "WITH RECURSIVE r(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM r)"
    columns = "cell, image, stage, first, draws, votes, nfe, classifier_rows, noise_s, purify_s, classify_s"
    view = f"CREATE VIEW blocks({columns}, peak_bytes, device, crc) AS {endless} SELECT {values} FROM r"
    edited(run, "PRAGMA journal_mode = DELETE", "DROP TABLE blocks", view)
    with pytest.raises(StoreError, match="blocks is no table of a run"):
        read_run(run)
    result = cli("doctor", "--repair", run)
    assert result.exit_code == 2 and "was not written by a run" in result.stderr


@pytest.mark.parametrize("column", ["votes TEXT AS (hex(zeroblob(1000)))", "votes TEXT GENERATED ALWAYS AS ('[1]')"])
def test_a_computed_column_is_refused(tmp_path, column):
    run = sent(tmp_path)
    edited(run, "DROP TABLE blocks", f"CREATE TABLE blocks (cell TEXT, {column})")
    with pytest.raises(StoreError, match="blocks is no table of a run"):
        read_run(run)


def test_votes_of_many_classes_are_refused_before_they_fill_the_memory():
    text = '{"classes":1000000,"3":1}'
    assert sum(votes.decode([text], 1_000_000)[0]) == 1
    with pytest.raises(InputError, match="need more memory"):
        votes.decode([text] * 2, 1_999_999)


@pytest.mark.parametrize(
    "text", ["[1.5]", "[-1]", "[[1]]", '["a"]', "[1e3]", "[true]", "[9999999999999999]", "", " [1]x"]
)
def test_votes_that_are_no_counts_are_refused(text):
    with pytest.raises(ValueError, match=r"damaged|line 1|votes|range"):
        votes.decode(["[1, 2]", text])


WRONG = {
    "preset": [],
    "preset.alpha": -1,
    "preset.n": 2**63,
    "preset.radii": "x",
    "labels": [1],
    "sweep": {"a": 1},
    "classes": 7,
    "trust": [],
    "trust.audits": {"a": 1},
    "devices": {"a": 1},
    "families": [3],
    "sessions": {"a": 3},
    "pixels": [],
    "libraries": 4,
    "tuning": 4,
}


@pytest.mark.parametrize("field", WRONG)
def test_a_manifest_of_right_checksum_and_wrong_types_is_refused_by_field(tmp_path, field):
    outer, _, inner = field.partition(".")
    value = {**(PRESET if outer == "preset" else {}), inner: WRONG[field]} if inner else WRONG[field]
    with pytest.raises(StoreError, match=rf"run\.sqlite: {field}"):
        read_run(sent(tmp_path, **{outer: value}))


DECISIVE = ("format", "sweep", "labels", "classes", "families", "preset")
DECISIVE += tuple(f"preset.{name}" for name in PRESET)


@pytest.mark.parametrize("field", DECISIVE)
@pytest.mark.parametrize("exported", [False, True])
def test_a_manifest_of_right_checksum_that_lacks_what_decides_a_figure_is_refused_by_field(tmp_path, field, exported):
    cell = make_cell()
    manifest = make_manifest(cell)
    outer, _, inner = field.partition(".")
    if inner:
        manifest["preset"] = {key: value for key, value in PRESET.items() if key != inner}
    else:
        del manifest[outer]
    run = closed_run(tmp_path, lambda store: store.begin([cell], manifest))
    if exported:
        cells = [{"key": cell.key, "cell": cell.to_json(), "error": None}]
        (run / DATABASE).unlink()
        (run / MANIFEST).write_text(json.dumps({**manifest, "cells": cells}))
        pd.DataFrame(columns=COLUMNS).to_parquet(run / PARQUET)
    said = r"damaged or missing \('sweep'\)" if exported and field == "sweep" else rf"{field}: Field required"
    for reader in (read_run, read_manifest):
        with pytest.raises(StoreError, match=said if reader is read_run else "Field required"):
            reader(run)


@pytest.mark.parametrize(
    ("column", "value"),
    [("image", "'a'"), ("nfe", "1.5"), ("image", "3000000000"), ("draws", "2000000000"), ("purify_s", "'b'")],
)
def test_blocks_of_right_checksum_and_wrong_types_are_refused_by_column(tmp_path, column, value):
    run = edited(sent(tmp_path), f"UPDATE blocks SET {column} = {value}")
    db = sqlite3.connect(run / DATABASE)
    for row in db.execute("SELECT rowid_.* FROM blocks AS rowid_").fetchall():
        crc = zlib.crc32(repr(row[:-1]).encode())
        db.execute("UPDATE blocks SET crc = ? WHERE stage = ?", (crc, row[2]))
    db.commit()
    db.close()
    with pytest.raises(StoreError, match=column if column != "draws" else "more than"):
        read_run(run)


@pytest.mark.parametrize("table", ["blocks", "manifest"])
def test_a_missing_checksum_is_no_right_one(tmp_path, table):
    with pytest.raises(StoreError, match="damaged"):
        read_run(edited(sent(tmp_path), f"UPDATE {table} SET crc = NULL"))


@pytest.mark.parametrize(
    "content",
    [{"sigma": "0.5"}, {"sigma": -1.0}, {"parameters": []}, {"seed": "0"}, {"hashes": {"noise": 1}}, {"rows": 1}],
)
def test_a_cell_of_right_key_and_wrong_types_is_refused(content):
    cell = make_cell()
    assert type(cell).from_json(cell.to_json()) == cell
    with pytest.raises((TypeError, ValueError)):
        type(cell).from_json(json.dumps({**json.loads(cell.to_json()), **content}))


def test_pipes_in_a_folder_do_not_hang_its_readers(tmp_path, cli):
    run = sent(tmp_path)
    export(read_run(run))
    (run / SUMS).unlink()
    os.mkfifo(run / "examples.npz")
    assert "no regular file" in cli("plot", run, "--formats", "svg").stderr
    (run / "examples.npz").unlink()
    for name in (PARQUET, "metrics.json"):
        (run / name).unlink(missing_ok=True)
        os.mkfifo(run / name)
    assert "no regular file" in cli("report", run).stderr
    (run / DATABASE).unlink()
    assert "no regular file" in cli("summary", run).stderr


def test_counts_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    (run / DATABASE).unlink()
    monkeypatch.setattr(files, "machine_memory", lambda: 100)
    with pytest.raises(StoreError, match=r"counts\.parquet cannot be read: reading it takes"):
        read_run(run)


def test_a_long_text_in_every_row_of_the_exports_is_refused(tmp_path):
    """A dictionary of one text of a megabyte makes a small file, and would be gigabytes as a column."""
    run = make_run(tmp_path)
    (run / DATABASE).unlink()
    table = pq.read_table(run / PARQUET)
    table = pa.concat_tables([table] * 3000)
    long = pa.DictionaryArray.from_arrays(pa.array([0] * len(table), pa.int32()), ["x" * 1_000_000])
    table = table.set_column(table.schema.get_field_index("device"), "device", long)
    pq.write_table(table, run / PARQUET, store_schema=False)
    (run / SUMS).unlink()
    with pytest.raises(StoreError, match=r"counts\.parquet is damaged .*it holds a text of more than 1,000"):
        read_run(run)


@pytest.mark.parametrize(("column", "value"), [("image", "x"), ("radius", "x"), ("correct", "maybe"), ("draws", 1.5)])
def test_an_imported_log_of_wrong_types_is_refused_by_column(tmp_path, column, value):
    row = {"image": 0, "label": 1, "predicted": 1, "radius": 0.5, "correct": True, "name": "a", "sigma": 0.5}
    row |= {"draws": 10, "nfe": 1.0, "largest": 2.0, "rule": "r"}
    pd.DataFrame([row]).to_csv(tmp_path / PUBLISHED, index=False)
    assert len(read_published(tmp_path)) == 1
    pd.DataFrame([{**row, column: value}]).to_csv(tmp_path / PUBLISHED, index=False)
    with pytest.raises(StoreError, match=f"column {column}"):
        read_published(tmp_path)


@pytest.mark.parametrize("image", ["-3", "1e300", "99999999999999999999", "2147483648"])
def test_impossible_image_numbers_are_not_imported(tmp_path, cli, image):
    log = tmp_path / "log.tsv"
    log.write_text(f"idx\tlabel\tpredict\tradius\tcorrect\n{image}\t1\t1\t0.5\t1\n")
    result = cli("import", log, "--sigma", 0.5, "--name", "x", "--dataset", "d", "--out", tmp_path / "out")
    assert result.exit_code == 2 and "row 2" in result.stderr and not (tmp_path / "out" / PUBLISHED).exists()


@pytest.mark.parametrize("draws", [10**15, 2**63, 2 * 10**6])
@pytest.mark.parametrize("name", ["n0", "n"])
def test_more_draws_than_a_run_can_hold_are_refused_by_name(name, draws):
    with pytest.raises(InputError, match=rf"^{name} = "):
        of_sweep({**PRESET, name: draws}, 0.5)
    of_sweep({**PRESET, name: 10**6}, 0.5)


def test_a_dangling_link_in_the_place_of_the_database_is_refused_and_nothing_is_made(run_folder, tmp_path):
    (run_folder / DATABASE).unlink()
    (run_folder / DATABASE).symlink_to(tmp_path / "absent")
    with pytest.raises(StoreError, match="is no file"):
        read_run(run_folder)
    assert not (tmp_path / "absent").exists()
