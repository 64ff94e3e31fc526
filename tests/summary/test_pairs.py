"""Rows side by side: the images that they share, what they are called, and one number for a run's front."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from summaries import Row, hits, summary_of, with_versions

from bench.certify.sequential import Sequential, fine_family
from bench.records import as_json
from bench.summary.cells import _rule_text
from bench.summary.format import images_text, listed, p_text, percent, percent_interval
from bench.summary.fronts import hypervolume
from bench.summary.pairs import certified, certifiers_of, data_sets, run_volume
from bench.summary.rows import named

ONE = Row("one", np.arange(10) / 10)


def test_rows_are_read_on_the_images_that_all_of_them_have():
    summary = summary_of(ONE, Row("two", np.arange(10) / 5, first=4, sigma=1.0), Row("three", hits(20, 5), nfe=2.0))
    images, radii = certified(summary, summary.table)
    assert images.tolist() == [4, 5, 6, 7, 8, 9]
    assert radii[:, 0].tolist() == [0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert radii[:, 1].tolist() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert radii[:, 2].tolist() == [-1.0, 1.0, -1.0, -1.0, -1.0, -1.0]


def test_an_image_that_is_wrong_is_certified_at_no_radius():
    summary = summary_of(ONE)
    wrong = replace(summary, certificates=summary.certificates.assign(correct=False))
    assert (certified(wrong, wrong.table)[1] == -1).all()


def test_images_of_different_data_sets_have_nothing_in_common():
    summary = summary_of(ONE, replace(ONE, label="two", cell={"data_hash": "1" * 16}))
    assert len(certified(summary, summary.table)[0]) == 0
    assert data_sets(summary, summary.table) == ["digits (0000000000000000)", "digits (1111111111111111)"]
    assert data_sets(summary_of(ONE), summary.table.iloc[:1]) == ["digits"]


def test_fingerprints_of_images_that_were_recorded_in_another_way_do_not_make_another_data_set():
    summary = summary_of(ONE, replace(ONE, label="two", cell={"data_hash": "1" * 16}))
    with_versions(summary, "two")
    assert data_sets(summary, summary.table) == ["digits"]
    assert len(certified(summary, summary.table)[0]) == 10


def test_a_row_without_any_image_shares_none():
    summary = summary_of(ONE, replace(ONE, label="failed", radii=hits(0), error="x"))
    assert certified(summary, summary.table)[1].shape == (0, 2)
    assert summary.table["complete"].tolist() == [True, False]
    assert named(summary)["name"].tolist() == ["one", "failed (failed)"]


def test_a_purifier_of_several_runs_is_named_with_its_run():
    summary = summary_of(replace(ONE, run="a"), replace(ONE, run="b"), replace(ONE, label="two", run="b"))
    assert summary.table["name"].tolist() == ["one", "one", "two"]
    assert named(summary)["series"].tolist() == named(summary)["name"].tolist() == ["one · a", "one · b", "two"]


def test_an_incomplete_row_is_named_with_its_images():
    shown = named(summary_of(replace(ONE, wanted=30)))
    assert (shown["name"][0], shown["series"][0]) == ("one (10 images)", "one")


def test_a_fine_grid_is_one_certifier_at_all_sigmas_and_another_grid_is_another():
    fine = [Sequential(s, fine_family((0.0, 0.25), s), preset="acr") for s in (0.25, 1.0)]
    assert len({rule.rule for rule in fine}) == 2
    (name,) = {_rule_text("acr", rule) for rule in fine}
    assert name.startswith("sequential acr (N0 = 100") and name.endswith("alpha = 0.001)")
    aware = replace(fine[0], label_aware=True)
    assert _rule_text("acr", aware).endswith("alpha = 0.001, label-aware)")
    coarse = [_rule_text("tight", Sequential(0.5, radii)) for radii in ((0.0, 0.25), (0.0, 0.5))]
    assert len(certifiers_of(summary_of(*(Row(f"p{i}", [1.0], rule=rule) for i, rule in enumerate(coarse))).table)) == 2


def test_the_hypervolume_of_a_run_is_that_of_its_rows():
    rng = np.random.default_rng(0)
    rows = [Row(f"p{i}", rng.random(50) * i, nfe=float(i)) for i in range(4)]
    summary = summary_of(*rows, replace(rows[3], label="log", source="imported", radii=rng.random(50) * 100))
    found = run_volume(summary, "run")
    acrs = summary.table["acr"].to_numpy()[:4]
    assert found.value == pytest.approx(float(hypervolume([0, 1, 2, 3], acrs)))
    assert found.low < found.value < found.high and found.rows == 4


@pytest.mark.parametrize("other", [{"rule": "sequential tight (N0 = 10)"}, {"first": 100}])
def test_a_run_whose_rows_do_not_compare_has_no_hypervolume(other):
    assert run_volume(summary_of(ONE, replace(ONE, label="two", **other)), "run") is None
    assert run_volume(summary_of(replace(ONE, wanted=100)), "run") is None


def test_the_summary_tells_the_hypervolume_of_each_run(cli, tiny_preset, tmp_path):
    out = tmp_path / "run"
    assert cli("run", tiny_preset(images=12), "--out", out, "--no-plots").exit_code == 0
    found = json.loads(cli("summary", out, "--json").stdout)["hypervolumes"]["run"]
    assert found["low"] <= found["value"] and found["scale"].startswith("log10(1 + NFE)")
    assert "hypervolume of run: " in cli("summary", out).stdout


def test_figures_are_written_in_one_way():
    assert [p_text(p) for p in (0.0001, 0.0012, 0.0994, 0.0996, 1)] == ["<0.001", "0.001", "0.099", "0.10", "1.00"]
    assert (percent(0.596), percent(0.5, 0), percent_interval(0.546, 0.632)) == ("59.6 %", "50 %", "[54.6, 63.2]")
    assert [images_text(n) for n in ([], [1], [5, 5], [9, 5])] == ["0 images", "1 image", "5 images", "5 to 9 images"]


def test_lists_are_read_as_words():
    assert listed([]) == "" and listed(["a"]) == "a" and listed("abc") == "a, b and c"
    assert listed("abcdef", 3) == "a, b, c and 3 more"


def test_records_are_json_that_any_reader_takes():
    text = as_json({"row": ONE.label, "figures": (1.0, float("nan"), float("inf"), None), 3: replace(ONE, radii=())})
    assert json.loads(text)["figures"] == [1.0, None, None, None]
    assert json.loads(text)["3"]["sigma"] == 0.5
