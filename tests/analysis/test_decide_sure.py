"""How sure a choice is: simulated, and on shared images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from summaries import Row, hits, summary_of

from bench.analysis.recommendation import recommend

NONE = Row("none", hits(100, range(10)), nfe=0.0, ms=0.001, family="none")


GOOD = Row("good", hits(100, range(80)), nfe=1.0, ms=1.0)


FAIR = Row("fair", hits(100, range(78)), nfe=5.0, ms=4.0)


POOR = Row("poor", hits(100, range(40)), nfe=2.0, ms=2.0)


def test_so_many_more_images_would_tell():
    """The number is checked against drawing that many images, with the shares that were seen."""
    first, second = hits(200, range(120)), hits(200, range(20, 130))
    found = recommend(summary_of(Row("a", first), Row("b", second)), 0.25)
    assert not found.clear and found.chosen.name == "a"
    n = 200 + found.more_images
    drawn = np.random.default_rng(0).multinomial(n, [20 / 200, 10 / 200, 170 / 200], size=1500)
    power = np.mean([stats.binomtest(int(a), int(a + b)).pvalue <= 0.05 for a, b, _ in drawn])
    assert 0.72 <= power <= 0.85
    assert f"about {found.more_images:,} more images would separate it from the closest" in found.verdict.lower()


def test_the_probability_is_that_of_the_purifier_at_whichever_sigma():
    halves = hits(100, range(50)), hits(100, range(1, 51))
    found = recommend(summary_of(Row("a", halves[0], 0.5), Row("a", halves[1], 1.0), Row("b", hits(100, 0), 0.5)), 0.25)
    assert found.chosen.name == "a" and found.runner_up.name == "b"
    assert found.share_best == pytest.approx(1.0)
    assert found.clear  # which sigma is not what was asked
    assert any("σ was chosen on the test set, among 2" in note for note in found.notes)
    tried = [Row("a", half, sigma, cell={"split": "val"}) for half, sigma in zip(halves, (0.5, 1.0), strict=True)]
    found = recommend(summary_of(*tried, Row("b", hits(100, 0), 0.5, cell={"split": "val"})), 0.25)
    assert any("σ was chosen on the val set, among 2" in note for note in found.notes)


def test_more_candidates_make_the_best_less_sure():
    alone = recommend(summary_of(GOOD, FAIR), 0.25).standings[1]
    among = recommend(summary_of(GOOD, POOR, FAIR, NONE, replace(FAIR, sigma=1.0)), 0.25).standings[1:]
    assert len(among) == 4 and all(s.p >= s.behind.p for s in among)
    assert alone.p < next(s.p for s in among if s.name == alone.name)


def test_purifiers_are_compared_on_the_images_that_they_share():
    """`few` is right on all of its 20 images, which are easy; on these, `good` is as right."""
    few = Row("few", hits(20, range(20)), nfe=3.0, run="other")
    found = recommend(summary_of(GOOD, few), 0.25)
    assert found.chosen.name == "good" and found.chosen.images == 100
    assert found.runner_up.accuracy == 1.0 and not found.clear
    assert any("compared on the 20 that they share" in note for note in found.notes)
    hard = recommend(summary_of(GOOD, replace(few, first=75)), 0.25)  # of these, `good` is right on five
    assert hard.chosen.name == "few" and hard.standings[1].behind.effect == pytest.approx(0.75)
    apart = recommend(summary_of(GOOD, replace(few, first=500)), 0.25)
    assert apart.share_best is None and not apart.clear and apart.more_images is None
    assert "no images in common" in apart.verdict


def test_one_image_decides_nothing():
    found = recommend(summary_of(Row("a", hits(1, 0)), Row("b", hits(1))), 0.25)
    assert found.chosen.name == "a" and not found.clear and found.share_best is None
    assert "of 1 image at" in found.verdict
    assert any("fewer than 10 images" in note for note in found.notes)


def test_fifty_purifiers_with_nothing_between_them_give_no_clear_choice():
    """Holm's correction at work: among fifty equals, the first and the last often differ at an uncorrected 5 %."""
    clear, uncorrected = 0, 0
    for seed in range(6):
        drawn = np.random.default_rng(seed).random((50, 200)) < 0.5
        found = recommend(summary_of(*(Row(f"p{i:02}", np.where(d, 1.0, -1.0)) for i, d in enumerate(drawn))), 0.25)
        clear += found.clear
        uncorrected += found.standings[-1].behind.p <= 0.05
        assert len(found.standings) == 50
        assert found.share_best < 0.6
    assert clear == 0 and uncorrected > 3


def test_a_choice_is_called_clear_wrongly_no_more_often_than_its_level():
    wrong = 0
    for seed in range(150):
        drawn = np.random.default_rng(seed).random((3, 80)) < np.array([[0.6], [0.6], [0.2]])
        found = recommend(summary_of(*(Row(f"p{i}", np.where(d, 1.0, -1.0)) for i, d in enumerate(drawn))), 0.25)
        wrong += found.clear
    assert wrong / 150 <= 0.06
