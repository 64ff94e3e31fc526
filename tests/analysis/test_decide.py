"""Recommendations: the right one where the images can tell, and plain words where they cannot."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from summaries import Row, hits, summary_of

from bench.analysis.recommendation import Recommendation, recommend
from bench.certify.fixed import FixedN
from bench.certify.sequential import Sequential
from bench.summary.statistics import wilson_interval
from bench.summary.summary import IMPORTED, Summary

NONE = Row("none", hits(100, range(10)), nfe=0.0, ms=0.001, family="none")
GOOD = Row("good", hits(100, range(80)), nfe=1.0, ms=1.0)
FAIR = Row("fair", hits(100, range(78)), nfe=5.0, ms=4.0)
POOR = Row("poor", hits(100, range(40)), nfe=2.0, ms=2.0)


def told(found: Recommendation) -> str:
    """All that a recommendation says."""
    return " ".join([found.verdict, *found.notes])


def test_what_certifies_the_most_is_chosen_where_the_images_can_tell():
    found = recommend(summary_of(NONE, POOR, GOOD), 0.25)
    assert found.chosen is not None and found.runner_up is not None
    assert (found.chosen.name, found.chosen.sigma, found.chosen.accuracy) == ("good", 0.5, 0.8)
    assert (found.chosen.low, found.chosen.high) == wilson_interval(80, 100)
    assert (found.chosen.nfe, found.chosen.ms, found.chosen.images) == (1.0, 1.0, 100)
    assert found.runner_up.name == "poor"
    assert found.clear and found.share_best == 1.0 and found.more_images is None
    assert found.verdict == (
        "Use good at σ = 0.5: it certifies 80.0 % [71.1, 86.7] of 100 images at radius 0.25, more than every other "
        "candidate (next: poor (40.0 %); largest p: <0.001)."
    )
    assert found.budget == "any cost"


def test_a_budget_leaves_out_what_costs_more():
    found = summary_of(NONE, POOR, GOOD, FAIR)
    assert recommend(found, 0.25, max_nfe=0).chosen.name == "none"
    assert recommend(found, 0.25, max_ms=1.5).chosen.name == "good"
    assert recommend(found, 0.25, max_nfe=5, max_ms=1.5).budget == (
        "at most 5 network evaluations and 1.5 ms per purification"
    )
    assert recommend(found, 0.25, max_nfe=1).budget == "at most 1 network evaluation"
    assert [s.option.name for s in recommend(found, 0.25, max_nfe=2).standings] == ["good", "poor", "none"]


def test_a_budget_of_a_whole_vote_leaves_out_what_costs_more():
    good, poor = replace(GOOD, gflops=2.0, joint=1.5), replace(POOR, gflops=1.0, joint=2.5)
    found = summary_of(good, poor)
    assert recommend(found, 0.25, max_gflops=2).chosen.name == "good"
    by_flops = recommend(found, 0.25, max_gflops=1.5)
    assert (by_flops.chosen.name, by_flops.cost, by_flops.chosen.gflops) == ("poor", "gflops", 1.0)
    assert by_flops.budget == "at most 1.5 GFLOPs per vote"
    by_time = recommend(found, 0.25, max_joint_ms=2)
    assert (by_time.chosen.name, by_time.cost, by_time.chosen.ms_joint) == ("good", "ms_joint", 1.5)
    assert by_time.budget == "at most 2 ms per vote"
    none = recommend(found, 0.25, max_gflops=0.5)
    assert "the cheapest is poor at σ = 0.5, for 1 GFLOPs per vote" in none.verdict


def test_flops_that_were_not_counted_are_within_no_budget():
    unknown = recommend(summary_of(GOOD, POOR), 0.25, max_gflops=100)
    assert unknown.chosen is None and "GFLOPs per vote of these runs are not known" in unknown.verdict
    partly = recommend(summary_of(GOOD, replace(POOR, gflops=1.0)), 0.25, max_gflops=100)
    assert partly.chosen.name == "poor"
    assert "1 whose GFLOPs per vote are not known" in told(partly)


def test_what_may_be_as_good_for_less_is_named():
    dear = Row("dear", hits(100, range(82)), nfe=9.0, ms=9.0)
    found = recommend(summary_of(NONE, GOOD, FAIR, dear), 0.25)
    assert found.chosen.name == "dear" and not found.clear
    assert found.runner_up.name == "good"
    assert "it cannot be distinguished from 2 others, the closest being good (80.0 %)" in found.verdict
    assert "Not significantly worse, and cheaper: good (80.0 %), 1 NFE instead of 9" in found.verdict
    assert 0.5 < found.share_best < 1
    by_time = recommend(summary_of(NONE, GOOD, FAIR, dear), 0.25, max_ms=9)
    assert "good (80.0 %), 1 ms instead of 9" in by_time.verdict
    assert "none of them is cheaper" in recommend(summary_of(replace(dear, nfe=1.0), GOOD, FAIR), 0.25).verdict.lower()


def test_of_equals_the_cheapest_is_chosen_and_no_number_of_images_is_promised():
    found = recommend(summary_of(replace(GOOD, label="dear", nfe=7.0), GOOD), 0.25)
    assert found.chosen.name == "good" and found.runner_up.name == "dear"
    assert not found.clear and found.share_best == 0.5 and found.more_images is None
    assert "more images may never separate them" in found.verdict


def test_where_there_is_one_purifier_its_sigmas_are_the_rivals():
    found = recommend(summary_of(Row("a", hits(100, range(50)), 0.5), Row("a", hits(100, range(20)), 1.0)), 0.25)
    assert (found.chosen.sigma, found.runner_up.sigma, found.clear) == (0.5, 1.0, True)


def test_the_only_candidate_is_chosen_without_a_probability():
    found = recommend(summary_of(GOOD), 0.25)
    assert found.chosen.name == "good" and found.runner_up is None and found.share_best is None and found.clear
    assert "nothing else does so within the budget" in found.verdict


def test_every_figure_of_a_candidate_is_the_summarys():
    rng = np.random.default_rng(0)
    summary = summary_of(*(Row(f"p{i}", np.where(rng.random(60) < 0.6, rng.random(60), -1)) for i in range(4)))
    table = summary.table.set_index("name")
    for standing in recommend(summary, 0.25).standings:
        o = standing.option
        mine = table.loc[o.name, ["acc@0.25", "acc_low@0.25", "acc_high@0.25", "nfe", "ms_purify", "images"]]
        assert [o.accuracy, o.low, o.high, o.nfe, o.ms, o.images] == mine.tolist()


def test_standings_are_behind_by_what_is_measured_on_the_same_images():
    found = recommend(summary_of(GOOD, POOR), 0.25)
    first, second = found.standings
    assert first.behind is None and first.p is None
    assert second.behind.effect == pytest.approx(0.4)
    assert second.behind.p == stats.binomtest(40, 40).pvalue < second.p < 0.001  # the least that resamples can show
    assert (first.best, second.best, first.on_front, second.on_front) == (1, 0, 1, 0)


@pytest.mark.parametrize(
    ("rows", "arguments", "said"),
    [
        ((), {}, "Nothing is certified yet"),
        ((replace(GOOD, source=IMPORTED),), {}, "imported logs only"),
        ((replace(GOOD, error="it raised"),), {}, "Everything failed (good)"),
        ((replace(GOOD, wanted=200), replace(POOR, error="x")), {}, "No row has all of its images yet (1 of 2 failed)"),
        ((GOOD, NONE), {"max_ms": 0}, "the cheapest is none at σ = 0.5, for 0.001 ms per purification"),
        ((GOOD,), {"max_nfe": 0.5}, "the cheapest is good at σ = 0.5, for 1 network evaluations"),
        (
            (Row("a", hits(50)), Row("b", hits(50))),
            {},
            "Not a single image is certified at radius 0.25 (by 2 candidates)",
        ),
        (
            (GOOD, replace(POOR, run="other", cell={"dataset": "letters"})),
            {},
            "certify different images (digits and letters)",
        ),
    ],
)
def test_where_nothing_can_be_recommended_it_is_said_why(rows, arguments, said):
    summary = summary_of(*rows) if rows else Summary("", summary_of(GOOD).table.iloc[:0], None, (), ())
    found = recommend(summary, 0.25, **arguments)
    assert found.chosen is None and found.runner_up is None and found.share_best is None and not found.clear
    assert said in found.verdict


def test_a_radius_beyond_the_draws_names_the_number_of_draws_that_reaches_it():
    certifier = FixedN(0.5, 10, 40, 0.001)
    row = replace(GOOD, certifier=certifier, largest=certifier.largest)
    found = recommend(summary_of(row), 1.0)
    assert found.chosen is None
    needed = math.ceil(math.log(0.001) / stats.norm.logcdf(2))  # alpha^(1/n) = Phi(radius / sigma)
    assert f"At σ = 0.5, --n {needed} could reach it (now --n 40)" in found.verdict
    assert FixedN(0.5, 10, needed, 0.001).largest >= 1.0 > FixedN(0.5, 10, needed - 1, 0.001).largest
    assert "take a larger one" in recommend(summary_of(row), 50.0).verdict
    near = recommend(summary_of(row, POOR), certifier.largest * 0.99)
    assert any("more draws (--n) would certify more images" in note for note in near.notes)


def test_a_radius_between_those_of_a_sequential_rule_is_read_at_the_next():
    rule = Sequential(0.5, (0.0, 0.25, 0.5))
    rows = [replace(row, certifier=rule, rule=rule.rule, largest=0.5) for row in (GOOD, POOR)]
    between = "a sequential rule certifies the radii of its grid only: radius 0.3 is read at 0.5"
    assert between in recommend(summary_of(*rows), 0.3).notes
    assert not any("grid" in note for note in recommend(summary_of(*rows), 0.25).notes)
    beyond = recommend(summary_of(*rows), 0.7).verdict
    assert "certifies only the radii of its grid" in beyond


def test_what_weakens_the_comparison_is_said():
    said = told(recommend(summary_of(GOOD, replace(POOR, rule="sequential tight (N0 = 10)")), 0.25))
    assert "different certifiers" in said
    others = replace(POOR, device="GPU", cell={"seed": 1, "classifier": "vit"})
    said = told(recommend(summary_of(GOOD, others), 0.25, max_ms=5))
    for part in ("different devices: CPU; GPU", "seed of the noise (0 and 1)", "classifier (cnn and vit)"):
        assert part in said
    assert "devices" not in told(recommend(summary_of(GOOD, others), 0.25, max_nfe=5))


def test_rows_that_are_no_candidates_are_accounted_for():
    rule = "sequential tight (N0 = 10, radii 0 0.25 0.5)"
    summary = summary_of(
        GOOD,
        replace(POOR, label="broken", error="it raised", radii=hits(0)),
        replace(POOR, label="half", wanted=200, rule=rule),
        replace(POOR, label="short", largest=0.1),
        replace(POOR, label="as short", largest=0.2),
        replace(FAIR, label="just", largest=0.25),
        replace(POOR, label="log", source=IMPORTED),
    )
    found = recommend(summary, 0.25)
    assert [s.option.name for s in found.standings] == ["good", "just"]
    (note,) = (n for n in found.notes if n.startswith("not among the candidates"))
    for part in (
        "of 7 rows",
        "1 failed (broken)",
        "(half) [a sequential rule decides easy images first",
        "2 with draws",
        "1 imported",
    ):
        assert part in note


def test_the_same_purifier_in_two_runs_is_told_apart():
    other = {"hashes": {"network edm": "other"}}
    found = recommend(summary_of(replace(GOOD, run="a"), replace(FAIR, label="good", run="b", cell=other)), 0.25)
    assert {s.option.name for s in found.standings} == {"good · a", "good · b"}
    assert found.runner_up is not None


@pytest.mark.parametrize("arguments", [(-1.0,), (math.inf,), (math.nan,), (0.5, -1.0), (0.5, None, math.inf)])
def test_a_radius_or_a_budget_that_is_none_is_refused(arguments):
    with pytest.raises(ValueError, match="must be a number of at least 0"):
        recommend(summary_of(GOOD), *arguments)


def test_the_command_line_says_it_and_writes_json(cli, tiny_preset, tmp_path):
    out = tmp_path / "run"
    assert cli("run", tiny_preset(images=12), "--out", out, "--no-plots").exit_code == 0
    said = cli("recommend", out, "--radius", "0")
    assert said.exit_code == 0
    assert "Use " in said.stdout or "Not a single image" in said.stdout
    record = json.loads(cli("recommend", out, "--radius", "0", "--max-nfe", "1", "--json").stdout)
    assert record["budget"] == "at most 1 network evaluation"
    assert {s["option"]["name"] for s in record["standings"]} == {"none", "onestep-edm"}
    beyond = cli("recommend", out, "--radius", "3", "--json")
    assert json.loads(beyond.stdout)["chosen"] is None and beyond.exit_code == 0


def test_the_command_line_takes_the_newest_run_and_refuses_what_is_none(cli, tiny_preset, tmp_path, monkeypatch):
    preset = tiny_preset()
    monkeypatch.chdir(tmp_path)
    empty = cli("recommend", "--radius", "0.1")
    assert empty.exit_code == 2 and "make one with `bench run`" in empty.stderr
    assert cli("run", preset, "--no-plots").exit_code == 0
    found = cli("recommend", "--radius", "0.1")
    assert found.exit_code == 0 and f"reading {tmp_path.joinpath('results', 'runs', 'tiny').relative_to(tmp_path)}" in (
        found.stderr
    )
    for wrong in (("absent", "--radius", "0.1"), ("--radius", "-1"), ("--radius", "0.1", "--max-ms", "-2"), ()):
        refused = cli("recommend", *wrong)
        assert refused.exit_code == 2 and "Traceback" not in refused.output
