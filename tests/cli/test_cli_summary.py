"""`bench summary` and folders that cannot be read: figures are JSON, refusals name the folder."""

from __future__ import annotations

import io

import pytest
from command import OK, refused, run, summary_of
from conftest import ROOT
from rich.console import Console
from summaries import CELL, Row, hits
from summaries import summary_of as made

from bench.api.answers import show
from bench.cli.tables import summary_parts
from bench.store.database import DATABASE

EDM = {"hashes": {**CELL["hashes"], "network edm": "weights"}}


def test_the_summary_as_json_has_every_figure_of_every_cell(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(sigmas=[0.25, 0.5], radii=[0.0, 0.25, 0.5], alpha=0.3), "--out", out)
    found = summary_of(cli, out)
    assert found["title"] == "Tiny"
    assert found["radii"] == [0, 0.25, 0.5]
    assert [(row["purifier"], row["sigma"]) for row in found["rows"]] == [
        (purifier, sigma) for sigma in (0.25, 0.5) for purifier in ("none", "onestep-edm")
    ]
    for row in found["rows"]:
        reached = [radius for radius in ("0", "0.25", "0.5") if float(radius) <= row["largest"]]
        assert all((row[f"acc@{radius}"] is None) == (radius not in reached) for radius in ("0", "0.25", "0.5"))
        accuracies = [row[f"acc@{radius}"] for radius in reached]
        assert sorted(accuracies, reverse=True) == accuracies
        assert all(row[f"acc_low@{r}"] <= row[f"acc@{r}"] <= row[f"acc_high@{r}"] for r in reached)
        assert 0 <= row["abstained"] <= 1
        assert row["acr_low"] <= row["acr"] <= row["acr_high"] <= row["largest"]
        assert row["nfe"] == (row["purifier"] == "onestep-edm")
        assert row["classifier_rows"] == 1
        assert row["images"] == row["wanted"] == 3
        assert row["counted_draws"] == 3 * 24
        assert min(row["ms_noise"], row["ms_purify"], row["ms_classify"]) > 0
        assert row["source"] == "counts" and row["error"] is None


def test_the_summary_as_json_has_the_best_sigmas_and_the_gains_over_the_own_one_step(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    purifiers = ["none", "onestep-edm", {"name": "ddim", "steps": 2}]
    run(cli, tiny_preset(sigmas=[0.25, 0.5], radii=[0.0, 0.25], alpha=0.3, purifiers=purifiers), "--out", out)
    found = summary_of(cli, out, "--against", "none")
    names = {"none", "onestep-edm", "ddim 2"}
    assert [row["radius"] for row in found["best"]] == [0] * 3 + [0.25] * 3
    assert {row["name"] for row in found["best"]} == names
    assert {row["name"]: row["baseline"] for row in found["best"]}["ddim 2"] == "onestep-edm"
    assert {(row["name"], row["baseline"]) for row in found["own_gains"]} == {("ddim 2", "onestep-edm")}
    assert {row["name"] for row in found["gains"]} == names - {"none"}
    printed = cli("summary", out, "--against", "none").stdout
    assert printed.count("than the one step of the same network") == 4 and printed.count("than none:") == 2


def test_the_best_sigmas_are_printed_before_each_sigma_and_losses_beside_gains():
    lost, won = (
        Row(f"{name}(steps=5)", hits(200, range(n)), nfe=5, cell=EDM) for name, n in (("ode", 40), ("sde", 160))
    )
    parts = list(summary_parts(made(Row("one", hits(200, range(100)), cell=EDM), lost, won)))
    out = io.StringIO()
    show(iter(parts), Console(file=out, width=124))
    lines = out.getvalue().splitlines()
    titles = [i for i, line in enumerate(lines) if "at its best σ" in line and "Certified" in line]
    per_sigma = next(i for i, line in enumerate(lines) if "at each σ" in line)
    assert len(titles) == 3 and max(titles) < per_sigma
    for words, mark in (("lower than the one step of the same network: ode 5", "↓"), ("higher", "↑")):
        assert sum(f"Significantly {words}" in line for line in lines) == 2
        assert any(mark in line and line.split()[0] == ("ode" if mark == "↓" else "sde") for line in lines)
    assert any(line.split()[:4] == ["sde", "5", "0.5", "80.0"] for line in lines)


def test_the_summary_reads_the_radii_that_are_asked_for(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(), "--out", out)
    assert summary_of(cli, out, "--radii", "0.1, 0.2")["radii"] == [0.1, 0.2]
    assert "≥0.15" in cli("summary", out, "--radii", "0.15").stdout


def test_every_reading_command_reads_the_counts_at_another_alpha(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    run(cli, tiny_preset(alpha=0.3), "--out", out)
    (before, after) = (summary_of(cli, out, *option)["rows"] for option in ((), ("--alpha", "0.01")))
    assert all(a["largest"] > b["largest"] and "alpha = 0.01" in b["rule"] for a, b in zip(before, after, strict=True))
    assert "alpha = 0.01" in cli("summary", out, "--alpha", "0.01").stdout
    assert cli("tables", out, "--alpha", "0.01").exit_code == OK
    assert "alpha = 0.01" in (out / "tables" / "table-sigma-0.5.md").read_text()
    for command in (("recommend", out, "--radius", "0.1"), ("compare", out, out)):
        assert cli(*command, "--alpha", "0.01").exit_code == OK
    for command in (("summary", out), ("recommend", out, "--radius", "0.1"), ("compare", out, out), ("tables", out)):
        assert "alpha must be between 0 and 1" in refused(cli(*command, "--alpha", "2"))


def test_a_sequential_rule_keeps_its_alpha(cli):
    tight = ROOT / "results" / "sequential" / "tight"
    assert "--certifier anytime" in refused(cli("summary", tight, "--alpha", "0.01"))


@pytest.mark.parametrize("radii", ["a", "0.1,,b", "-0.1", "nan", "inf"])
def test_radii_that_are_none_are_refused(cli, tiny_preset, tmp_path, radii):
    out = tmp_path / "out"
    run(cli, tiny_preset(images=1, purifiers=["none"]), "--out", out)
    refused(cli("summary", out, "--radii", radii))


def test_the_summary_of_two_runs_names_both(cli, tiny_preset, tmp_path):
    for seed in (1, 2):
        run(cli, tiny_preset(), "--seed", seed, "--out", tmp_path / f"seed-{seed}")
    found = summary_of(cli, tmp_path / "seed-1", tmp_path / "seed-2")
    assert [row["run"] for row in found["rows"]] == ["seed-1", "seed-1", "seed-2", "seed-2"]


def test_a_folder_without_a_run_is_refused(cli, tmp_path):
    for command in ("summary", "plot"):
        assert "there is no run in" in refused(cli(command, tmp_path))


def test_a_run_that_was_killed_before_it_counted_has_a_summary_that_says_so(cli, tiny_preset, tmp_path):
    from bench.store.store import Store
    from bench.sweep.plan import make_plan, manifest
    from bench.sweep.preset import load_preset

    planned = make_plan(load_preset(str(tiny_preset()), {}), "cpu")
    with Store(tmp_path / "opened"):
        pass
    with Store(tmp_path / "begun") as store:
        store.begin(planned.cells, manifest(planned, ["cpu"]))
    for folder, note in (("opened", "nothing is certified yet"), ("begun", "incomplete: 2 of 2 cells")):
        shown = cli("summary", tmp_path / folder)
        assert shown.exit_code == OK
        assert note in shown.stdout
        assert "failed" not in shown.stdout
        assert any(note in line for line in summary_of(cli, tmp_path / folder)["notes"])


def test_a_damaged_results_folder_is_refused_by_every_command(cli, tiny_preset, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / DATABASE).write_bytes(b"not a database at all, " * 100)
    for command in (("run", tiny_preset(), "--out", out, "--no-plots"), ("summary", out), ("plot", out)):
        said = refused(cli(*command))
        assert str(out / DATABASE) in said and "is damaged" in said


def test_a_folder_that_another_run_writes_to_is_refused(cli, tiny_preset, tmp_path):
    from bench.store.store import Store

    with Store(tmp_path / "out"):
        said = refused(run(cli, tiny_preset(), "--out", tmp_path / "out"))
    assert f"another run is writing to {tmp_path / 'out'}" in said and "--out" in said
