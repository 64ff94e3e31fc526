"""Fronts: what lies on them, how surely, and how much they cover, against their definitions in a few plain lines."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from bench.summary.fronts import best_shares, front, front_shares, hypervolume
from bench.summary.statistics import resampled_means


def test_the_front_keeps_what_nothing_as_cheap_beats():
    costs, values = [1, 1, 2, 3, 4, float("nan")], [0.5, 0.6, 0.55, 0.7, 0.7, 0.9]
    assert front(costs, values) == [1, 3]


def best_probability(values: np.ndarray) -> np.ndarray:
    return best_shares(resampled_means(values))


def flips(images: int, *shares: float, seed: int = 0) -> np.ndarray:
    """`[images, options]` of 0 and 1."""
    return (np.random.default_rng(seed).random((images, len(shares))) < shares).astype(float)


def test_the_probability_to_be_the_best_is_that_of_drawing_the_images_again():
    """Two options that differ on 3 and 1 of 20 images: all that a resample can hold of these, with its probability."""
    values = np.zeros((20, 2))
    values[:3, 0], values[3:4, 1], values[4:10] = 1, 1, 1
    expected = sum(
        stats.multinomial.pmf([a, b, 20 - a - b], 20, [3 / 20, 1 / 20, 16 / 20]) * (1.0 if a > b else 0.5)
        for a in range(21)
        for b in range(min(a, 20 - a) + 1)
    )
    assert best_probability(values) == pytest.approx([expected, 1 - expected], abs=0.03)


def test_the_probability_to_be_the_best_comes_true_as_often_as_it_says():
    """Many pairs of purifiers of any quality, 100 images each: of those called better with p, a share of p is.

    (Where qualities lie closer together than 100 images can tell, it is too sure.)
    """
    rng = np.random.default_rng(0)
    said, true = [], []
    for seed in range(1200):
        quality = rng.uniform(0.1, 0.9, 2)
        said.append(best_probability(flips(100, *quality, seed=seed + 1))[0])
        true.append(quality[0] > quality[1])
    said_, true_ = np.array(said), np.array(true)
    for low, high in ((0, 0.2), (0.2, 0.5), (0.5, 0.8), (0.8, 1.01)):
        mine = (said_ >= low) & (said_ < high)
        assert true_[mine].mean() == pytest.approx(said_[mine].mean(), abs=0.12), (low, high)


def test_equals_share_the_probability():
    same = np.tile(flips(50, 0.5), 4)
    assert best_probability(same) == pytest.approx([0.25] * 4)


@given(
    st.lists(st.sampled_from([0.0, 1.0, 2.0, 5.0, float("nan")]), min_size=1, max_size=6),
    st.integers(0, 100),
)
def test_the_probability_to_be_on_the_front_counts_what_nothing_dominates(costs, seed):
    values = flips(12, *np.linspace(0.3, 0.7, len(costs)), seed=seed)
    means = resampled_means(values)

    def on_front(i: int) -> np.ndarray:
        dominated = np.zeros(len(means), bool)
        for j, cost in enumerate(costs):
            as_cheap, as_good = cost <= costs[i], means[:, j] >= means[:, i] - 1e-12
            dominated |= as_cheap & as_good & ((cost < costs[i]) | (means[:, j] > means[:, i] + 1e-12))
        return ~dominated if np.isfinite(costs[i]) else np.zeros(len(means), bool)

    expected = [on_front(i).mean() for i in range(len(costs))]
    assert front_shares(costs, means) == pytest.approx(expected, abs=1e-12)


def test_one_option_half_way_along_the_scale_covers_half_of_its_value():
    assert hypervolume([9], np.array([0.6])) == pytest.approx(0.3)  # log10(1 + 9) of log10(1 + 99)
    assert hypervolume([0], np.array([0.6])) == pytest.approx(0.6)
    assert hypervolume([99], np.array([0.6])) == 0
    assert hypervolume([float("nan")], np.array([0.5])) == 0
    assert hypervolume([], np.empty((3, 0))).tolist() == [0, 0, 0]


options = st.lists(st.tuples(st.floats(0, 200), st.floats(0, 1)), min_size=1, max_size=8)


@given(options)
def test_the_hypervolume_is_what_a_budget_buys_on_average(found):
    costs, values = np.array(found).T
    budgets = 10 ** np.linspace(0, 2, 4001) - 1  # uniform on log10(1 + NFE)
    bought = [values[costs <= budget].max(initial=0.0) for budget in budgets]
    assert hypervolume(costs, values) == pytest.approx(np.mean(bought), abs=2e-3)


@given(options, st.tuples(st.floats(0, 200), st.floats(0, 1)))
def test_one_more_option_never_lowers_the_hypervolume(found, more):
    before = hypervolume(*np.array(found).T)
    assert hypervolume(*np.array([*found, more]).T) >= before - 1e-12


def test_several_sets_of_values_have_a_hypervolume_each():
    values = np.random.default_rng(0).random((5, 3))
    costs = [1.0, 0.0, 4.0]
    assert hypervolume(costs, values) == pytest.approx([float(hypervolume(costs, v)) for v in values])
