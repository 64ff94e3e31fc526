"""Bounds and the fixed-N certifier."""

import numpy as np
import pytest
from scipy import stats

from bench.certify.base import Request, Tally
from bench.certify.bounds import certified_radius, clopper_pearson_lower, largest_radius
from bench.certify.fixed import FixedN

SIGMA = 0.5


@pytest.mark.parametrize(("hits", "draws"), [(1, 10), (9, 10), (10, 10), (990, 1000), (99_990, 100_000)])
@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_lower_bound_is_clopper_and_pearsons(hits, draws, alpha):
    assert clopper_pearson_lower(hits, draws, alpha) == pytest.approx(stats.beta.ppf(alpha, hits, draws - hits + 1))
    exact = stats.binomtest(hits, draws, alternative="greater").proportion_ci(1 - alpha, method="exact")
    assert clopper_pearson_lower(hits, draws, alpha) == pytest.approx(exact.low, abs=1e-9)


def test_no_hits_bound_nothing():
    assert clopper_pearson_lower(0, 100, 0.001) == 0


def test_more_hits_than_draws_are_refused():
    with pytest.raises(ValueError, match="hits"):
        clopper_pearson_lower(11, 10, 0.001)


@pytest.mark.parametrize("p", [0.3, 0.8, 0.97])
def test_the_bound_covers_as_often_as_it_promises(p):
    n, alpha = 200, 0.05
    hits = np.arange(n + 1)
    misses = np.array([clopper_pearson_lower(int(k), n, alpha) > p for k in hits])
    assert stats.binom.pmf(hits, n, p)[misses].sum() <= alpha


@pytest.mark.parametrize(("draws", "factor"), [(10_000, 3.199), (100_000, 3.811)])
def test_the_largest_radius_is_the_published_one(draws, factor):
    assert largest_radius(draws, 0.001, SIGMA) == pytest.approx(SIGMA * factor, abs=SIGMA * 5e-4)


def test_the_radius_grows_with_the_bound_and_is_zero_up_to_one_half():
    bounds = np.linspace(0.4, 0.999, 50)
    radii = [certified_radius(p, SIGMA) for p in bounds]
    assert radii == sorted(radii)
    assert all(r == 0 for r, p in zip(radii, bounds, strict=True) if p <= 0.5)
    assert certified_radius(stats.norm.cdf(1.0), SIGMA) == pytest.approx(SIGMA)


def test_cohen_asks_for_exactly_its_draws_in_blocks():
    rule = FixedN(SIGMA, n0=10, n=250, alpha=0.001, block=100)
    requests = rule.missing(Tally())
    assert requests == [
        Request("select", 0, 10),
        Request("estimate", 0, 100),
        Request("estimate", 100, 100),
        Request("estimate", 200, 50),
    ]
    assert rule.certify(Tally()) is None


def test_cohen_asks_only_for_what_is_not_counted():
    rule = FixedN(SIGMA, n0=10, n=250, alpha=0.001, block=100)
    tally = Tally({0: [9, 1]}, {0: [90, 10], 200: [50, 0]})
    assert rule.missing(tally) == [Request("estimate", 100, 100)]
    assert rule.certify(tally) is None


def test_the_class_is_chosen_by_selection_and_bounded_by_estimation():
    rule = FixedN(SIGMA, n0=10, n=100, alpha=0.001)
    certificate = rule.certify(Tally({0: [0, 6, 4]}, {0: [3, 95, 2]}))
    assert certificate.predicted == 1
    assert certificate.p_lower == clopper_pearson_lower(95, 100, 0.001)
    assert certificate.radius == certified_radius(certificate.p_lower, SIGMA)
    assert (certificate.draws, certificate.rule) == (100, rule.rule)


def test_it_abstains_when_the_selected_class_is_not_certain():
    certificate = FixedN(SIGMA, n0=10, n=100, alpha=0.001).certify(Tally({0: [6, 4]}, {0: [40, 60]}))
    assert certificate.predicted is None
    assert certificate.radius == 0


def test_counts_of_more_draws_are_read_at_fewer():
    tally = Tally({0: [10, 0]}, {0: [100, 0], 100: [0, 100]})
    assert FixedN(SIGMA, 10, 100, 0.001).certify(tally).p_lower == clopper_pearson_lower(100, 100, 0.001)


def test_a_block_that_crosses_n_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="--out"):
        FixedN(SIGMA, 10, 50, 0.001).certify(Tally({0: [10, 0]}, {0: [100, 0]}))
