"""Intervals and tests: against scipy and statsmodels, by enumeration of everything that can happen, by simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from bench.summary.statistics import (
    FEWEST,
    _mcnemar_p,
    _newcombe_interval,
    accuracy_difference,
    holm,
    images_needed,
    mean_differences,
    mean_interval,
    resampled_means,
    resampled_shares,
    split_half,
    split_halves,
    wilson_interval,
)

few = st.integers(0, 40)


@pytest.mark.parametrize(("hits", "total"), [(0, 20), (300, 500), (500, 500), (1, 3)])
def test_the_interval_of_an_accuracy_is_wilsons(hits, total):
    expected = stats.binomtest(hits, total).proportion_ci(0.95, method="wilson")
    assert wilson_interval(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_sixty_percent_of_500_images_has_the_interval_of_the_protocol():
    low, high = wilson_interval(300, 500)
    assert (round(100 * low, 1), round(100 * high, 1)) == (55.6, 64.2)


def test_the_bootstrap_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        low, high = mean_interval(rng.exponential(size=150), seed=seed)
        covered += low <= 1 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_columns_are_resampled_together_however_many_images_there_are():
    values = np.random.default_rng(1).normal(size=(3000, 2))  # more than go into one chunk
    picks = np.random.default_rng(0).integers(3000, size=(1000, 3000))
    assert np.allclose(resampled_means(values, 1000), values[picks].mean(axis=1), atol=1e-12)


@given(few, few)
def test_mcnemars_test_is_that_of_scipy_and_of_statsmodels(ahead, behind):
    p = _mcnemar_p(ahead, behind)
    expected = stats.binomtest(ahead, ahead + behind, 0.5).pvalue if ahead + behind else 1.0
    assert p == pytest.approx(expected, abs=1e-12)
    if ahead + behind:
        assert p == pytest.approx(mcnemar([[3, ahead], [behind, 7]], exact=True).pvalue, abs=1e-12)


@pytest.mark.parametrize("apart", [0.05, 0.2, 0.6])
def test_mcnemars_test_finds_no_more_than_its_level_where_there_is_nothing(apart):
    """Over everything that 60 images can show, of two purifiers that are equally good."""
    found = sum(
        stats.binom.pmf(total, 60, apart) * stats.binom.pmf(ahead, total, 0.5)
        for total in range(61)
        for ahead in range(total + 1)
        if _mcnemar_p(ahead, total - ahead) <= 0.05
    )
    assert found <= 0.05


def test_newcombes_interval_is_that_of_his_paper():
    assert _newcombe_interval(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)  # Table III, method 10


@given(few, few, few, few)
def test_newcombes_interval_holds_the_difference_and_turns_with_it(both, first, second, neither):
    low, high = _newcombe_interval(both, first, second, neither)
    n = both + first + second + neither
    assert -1 - 1e-12 <= low <= ((first - second) / n if n else 0) + 1e-12
    assert ((first - second) / n if n else 0) - 1e-12 <= high <= 1 + 1e-12
    assert _newcombe_interval(both, second, first, neither) == pytest.approx((-high, -low), abs=1e-12)


@pytest.mark.parametrize(
    "truth", [(0.8, 0.05, 0.05, 0.1), (0.5, 0.2, 0.05, 0.25), (0.3, 0.2, 0.2, 0.3), (0.9, 0.08, 0.01, 0.01)]
)
def test_newcombes_interval_covers_as_often_as_it_says(truth):
    """Over all tables of 30 images, each with its probability."""
    n, covered = 30, 0.0
    for both, first, second in itertools.product(range(n + 1), repeat=3):
        if (neither := n - both - first - second) < 0:
            continue
        low, high = _newcombe_interval(both, first, second, neither)
        if low <= truth[1] - truth[2] <= high:
            covered += stats.multinomial.pmf([both, first, second, neither], n, truth)
    assert 0.94 <= covered <= 0.995


def test_a_difference_of_accuracies_counts_each_image_once():
    first, second = np.array([1, 1, 1, 0, 0, 1], bool), np.array([1, 0, 0, 0, 1, 1], bool)
    found = accuracy_difference(first, second)
    assert (found.images, found.effect) == (6, pytest.approx(first.mean() - second.mean()))
    assert (found.only_first, found.only_second) == (2 / 6, 1 / 6)
    assert found.p == _mcnemar_p(2, 1)
    assert (found.low, found.high) == _newcombe_interval(2, 2, 1, 1)
    nothing = accuracy_difference(first[:0], second[:0])
    assert (nothing.images, nothing.effect, nothing.p) == (0, 0, 1)


def test_a_difference_of_means_has_the_interval_of_scipys_bootstrap():
    gained = np.random.default_rng(0).exponential(size=300) - 0.9
    (found,) = mean_differences(gained[:, None])
    expected = stats.bootstrap(
        (gained,), np.mean, n_resamples=20_000, method="percentile", random_state=np.random.default_rng(1)
    ).confidence_interval
    assert (found.effect, found.images) == (pytest.approx(gained.mean()), 300)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.005)
    assert found.p == pytest.approx(stats.ttest_1samp(gained, 0).pvalue, abs=0.03)


def test_a_difference_of_means_errs_as_often_as_it_says():
    """A thousand pairs of purifiers of which neither has the larger radius, on 100 images; most images agree."""
    rng = np.random.default_rng(2)
    gained = rng.normal(size=(100, 1000)) * (rng.random((100, 1000)) < 0.4)
    found = mean_differences(gained)
    assert 0.03 <= np.mean([d.p <= 0.05 for d in found]) <= 0.085
    assert 0.915 <= np.mean([d.low <= 0 <= d.high for d in found]) <= 0.97
    assert all((d.p <= 0.05) == (d.low > 0 or d.high < 0) for d in found if abs(d.p - 0.05) > 0.001)


def test_what_does_not_differ_is_never_significant():
    same, constant = mean_differences(np.stack([np.zeros(50), np.full(50, 0.1)], axis=1))
    assert (same.effect, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert constant.effect == pytest.approx(0.1) and constant.p < 0.001
    (one,) = mean_differences(np.array([[0.3]]))
    assert one.p == 1 and math.isnan(one.low)
    (none,) = mean_differences(np.empty((0, 1)))
    assert none.p == 1 and math.isnan(none.effect)


@settings(max_examples=40)
@given(st.lists(st.floats(0, 1), max_size=20))
def test_holms_correction_is_that_of_statsmodels(p_values):
    expected = multipletests(p_values, method="holm")[1] if p_values else []
    assert holm(p_values) == pytest.approx(list(expected), abs=1e-12)


def test_after_holms_correction_a_family_of_tests_errs_as_often_as_one():
    families = np.random.default_rng(0).random((4000, 12))
    assert 0.035 <= np.mean([min(holm(list(p))) <= 0.05 for p in families]) <= 0.065


@pytest.mark.parametrize(("ahead", "behind"), [(0.10, 0.04), (0.30, 0.20), (0.05, 0.01)])
def test_so_many_images_tell_the_difference_four_times_out_of_five(ahead, behind):
    n = images_needed(ahead, behind)
    drawn = np.random.default_rng(0).multinomial(n, [ahead, behind, 1 - ahead - behind], size=4000)
    told = np.mean([_mcnemar_p(int(a), int(b)) <= 0.05 for a, b, _ in drawn])
    assert 0.72 <= told <= 0.84
    assert images_needed(behind, ahead) == n
    assert images_needed(ahead, behind, alpha=0.01) > n


def test_no_number_of_images_tells_what_does_not_differ():
    assert images_needed(0.1, 0.1) == math.inf == images_needed(0, 0)


def test_the_best_of_several_columns_is_read_on_images_that_did_not_choose_it():
    """Ten columns of coin flips: the best of them seems better than it is, the split halves do not fall for it."""
    flips = (np.random.default_rng(0).random((200, 60, 10)) < 0.5).astype(float)
    naive = [flip.mean(axis=0).max() for flip in flips]
    fair = [split_half(flip, splits=20)[0] for flip in flips]
    assert np.mean(naive) > 0.58
    assert np.mean(fair) == pytest.approx(0.5, abs=0.01)


def test_split_halves_are_the_mean_over_all_halves():
    values = np.array([[1, 0], [1, 1], [0, 1], [1, 0.0]])
    read, chosen = [], []
    for half in itertools.combinations(range(4), 2):
        mine = np.isin(range(4), half)
        best = values[mine].mean(axis=0).argmax()
        read.append(values[~mine, best].mean())
        chosen.append(best)
    found, shares = split_half(values, splits=4000)
    assert found == pytest.approx(np.mean(read), abs=0.01)
    assert shares == pytest.approx([1 - np.mean(chosen), np.mean(chosen)], abs=0.02)


def test_one_image_cannot_be_halved():
    found, shares = split_half(np.ones((1, 2)))
    assert math.isnan(found) and np.isnan(shares).all()
    assert FEWEST > 2


def test_kept_means_of_hits_are_the_resampled_means_whatever_was_asked_before():
    rng = np.random.default_rng(7)
    hits = rng.random((37, 6)) < rng.random(6)
    expected = resampled_means(hits.astype(float), 300)
    for columns in ([0, 3], [3, 1, 1], range(6)):
        assert np.array_equal(resampled_shares(hits[:, columns], 300), expected[:, columns])
    assert not np.array_equal(resampled_shares(hits[:30], 300), expected)
    assert np.array_equal(resampled_shares(hits, 300, seed=1), resampled_means(hits.astype(float), 300, seed=1))


def test_groups_are_halved_as_each_of_them_alone():
    values = np.random.default_rng(8).random((41, 5))
    groups = [[0, 4], [3, 1, 2], [2]]
    together = split_halves(values, groups)
    for group, (mean, shares) in zip(groups, together, strict=True):
        alone, chosen = split_half(values[:, group])
        assert mean == pytest.approx(alone, abs=1e-12) and np.array_equal(shares, chosen)
