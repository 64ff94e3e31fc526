"""Published logs beside measured runs: radii only, and never compared with runs of other images."""

from __future__ import annotations

import pytest
from command import OK, REFUSED, summary_of
from conftest import ROOT
from logs import GOOD, import_cli, log_writer

from bench.analysis.tables import tables
from bench.store.imported import import_log
from bench.store.run import read_run
from bench.summary.rows import conditions, drawable
from bench.summary.summary import IMPORTED, summarise


@pytest.fixture
def log(tmp_path):
    return log_writer(tmp_path)


def test_imported_rows_never_have_counts_or_measured_costs(cli, log, tmp_path):
    import_cli(cli, log(*GOOD), tmp_path / "out", nfe=1)
    run = read_run(tmp_path / "out")
    assert run.blocks.empty and not run.cells and not run.manifest
    found = summary_of(cli, tmp_path / "out")
    (row,) = found["rows"]
    assert row["source"] == "imported, radii only"
    assert row["nfe"] == 1
    assert "published log" in row["rule"]
    assert not {key for key in row if row[key] is not None and key.startswith(("ms_", "counted", "device", "peak"))}
    assert "imported rows come from published logs: radii only, cost not measured here" in found["notes"]
    certificates = summarise([run]).certificates
    assert certificates["p_lower"].isna().all()


def test_an_nfe_that_is_not_given_is_unknown_and_not_zero(cli, log, tmp_path):
    import_cli(cli, log(*GOOD), tmp_path / "out")
    assert summary_of(cli, tmp_path / "out")["rows"][0]["nfe"] is None


def test_imported_and_measured_rows_are_summarised_together(cli, log, tiny_preset, tmp_path):
    out, logs = tmp_path / "out", tmp_path / "logs"
    assert cli("run", tiny_preset(), "--out", out, "--no-plots").exit_code == OK
    measured = summary_of(cli, out)["rows"]
    before = read_run(out)
    import_log(log(*GOOD), logs, "published", "mnist5k", 0.5, 1, 100_000, 0.001)

    together = summary_of(cli, out, logs)
    assert [row["source"] for row in together["rows"]] == ["counts", "counts", IMPORTED]
    assert [row["name"] for row in together["rows"]] == ["none", "onestep-edm", "published (imported)"]
    for alone, beside in zip(measured, together["rows"], strict=False):
        assert {key: beside[key] for key in alone} == alone
    shown = cli("summary", out, logs).stdout
    assert "onestep-edm" in shown and "published" in shown

    import_log(log(*GOOD), out, "published", "mnist5k", 0.5, 1, 100_000, 0.001)
    in_one_folder = summary_of(cli, out)
    assert [row["source"] for row in in_one_folder["rows"]] == ["counts", "counts", IMPORTED]
    assert cli("run", tiny_preset(), "--out", out, "--no-plots").exit_code == OK
    after = read_run(out)
    assert len(after.blocks) == len(before.blocks) and set(after.cells) == set(before.cells)
    assert len(summary_of(cli, out)["rows"]) == 3


def test_a_log_of_another_data_set_stands_beside_counts_and_is_never_compared(cli, log, tmp_path):
    """Tried by a new user: a log of ImageNet was attributed to MNIST, under N and alpha of another run."""
    import_log(log(*GOOD), tmp_path, "ResNet-50", "imagenet", 0.5, 1, 100_000, 0.001)
    found = summarise([read_run(ROOT / "results" / "embedded"), read_run(tmp_path)])
    assert found.title.endswith("[of different images: never compare them]")
    assert "rows are of different images (imagenet and mnist5k)" in found.notes[0]
    rows = drawable(found)
    words = conditions(rows)
    assert "embedded: mnist5k · 500 images · cohen (N0 = 10, N = 40" in words
    assert "imported: imagenet · 4 images · published log (N = 100000, alpha = 0.001" in words
    assert not rows.loc[rows["imported"], "competes"].any()
    table = tables(found, [0.5])[-1]
    assert any(line.startswith("Bold: the highest of the rows with counts; published") for line in table.notes)
    shown = cli("plot", ROOT / "results" / "embedded", tmp_path)
    assert shown.exit_code == REFUSED and "say --out" in shown.stderr
