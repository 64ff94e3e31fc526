"""Sigma and purifier chosen on validation images: read on others, beside the envelope of these."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from summaries import Row, hits, summary_of

from bench.analysis.choice import ANY, choices
from bench.errors import InputError

VAL, OTHER = {"split": "val"}, {"hashes": {"network edm": "other"}}
NEAR = (Row("near", hits(100, range(60)), sigma=0.25), Row("near", hits(100, range(50)), sigma=0.5))
FAR = (Row("far", hits(100, range(40)), sigma=0.25, nfe=3.0), Row("far", hits(100, range(70)), sigma=0.5, nfe=3.0))
SEEN = summary_of(
    replace(NEAR[0], radii=hits(50, range(20)), cell=VAL),
    replace(NEAR[1], radii=hits(50, range(40)), cell=VAL),  # the validation images prefer the other sigma
    replace(FAR[0], radii=hits(50, range(10)), cell=VAL),
    replace(FAR[1], radii=hits(50, range(40)), cell=VAL),
)


def test_each_purifier_is_read_at_the_sigma_that_the_validation_images_prefer():
    found = choices(SEEN, summary_of(*NEAR, *FAR), [0.25]).set_index("among")
    assert found.loc["near", ["sigma", "seen", "accuracy", "best_sigma", "best", "cost"]].tolist() == [
        *(0.5, 0.8, 0.5, 0.25, 0.6),
        pytest.approx(0.1),
    ]
    assert found.loc["far", ["sigma", "accuracy", "cost"]].tolist() == [0.5, 0.7, 0]
    assert found.loc["near", ["seen_images", "images"]].tolist() == [50, 100]


def test_of_equally_good_choices_the_cheaper_one_is_taken_and_the_envelope_is_the_best_of_all():
    first = choices(SEEN, summary_of(*NEAR, *FAR), [0.25]).iloc[0]
    assert (first["among"], first["name"], first["sigma"]) == (ANY, "near", 0.5)
    assert (first["best_name"], first["best_sigma"]) == ("far", 0.5)
    assert first["cost"] == pytest.approx(0.2) and first["cost_low"] > 0 and first["p"] < 0.001


def test_only_rows_of_the_same_networks_take_part_and_only_radii_that_draws_reach():
    read = summary_of(NEAR[0], replace(NEAR[1], cell=OTHER), replace(FAR[1], largest=0.3))
    found = choices(SEEN, read, [0.25, 0.5])
    assert set(zip(found["radius"], found["name"], found["sigma"], strict=True)) == {
        *((0.25, "far", 0.5), (0.25, "near", 0.25)),
        *((0.5, "far", 0.5), (0.5, "near", 0.25)),
    }


def test_a_choice_on_the_images_that_it_is_read_on_is_refused():
    with pytest.raises(InputError, match="--split val"):
        choices(summary_of(*NEAR), summary_of(*FAR))
    with pytest.raises(InputError, match="in common"):
        choices(SEEN, summary_of(replace(NEAR[0], label="new")))


def test_the_command_prints_the_choice_of_each_radius(cli, tiny_preset, tmp_path):
    for split in ("val", "test"):
        ran = cli("run", tiny_preset(), "--split", split, "--out", tmp_path / split, "--no-plots")
        assert ran.exit_code == 0, ran.output
    shown = cli("choose", tmp_path / "val", tmp_path / "test", "--each")
    assert shown.exit_code == 0, shown.output
    assert "Purifier and σ chosen beforehand" in shown.stdout and "onestep-edm" in shown.stdout
    record = json.loads(cli("choose", tmp_path / "val", tmp_path / "test", "--json").stdout)
    assert {row["among"] for row in record} == {ANY, "none", "onestep-edm"}
    assert cli("choose", tmp_path / "test", tmp_path / "test").exit_code == 2
