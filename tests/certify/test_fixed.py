"""Rules that draw as many times for every image: what each bound promises, exactly where that can be computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.special import logsumexp

from bench.certify.base import Tally
from bench.certify.bounds import (
    anytime_lower,
    clopper_pearson_lower,
    clopper_pearson_upper,
    e_process_lower,
    randomised_lower,
)
from bench.certify.fixed import BOUNDS, FixedN, _multi_class
from bench.certify.rules import of_sweep
from bench.records import Certificate

SIGMA, ALPHA = 0.5, 0.05


def certificate(bound: str, votes: list[int], image: int = 0, alpha: float = ALPHA, seed: int = 0) -> Certificate:
    rule = FixedN(SIGMA, 10, sum(votes), alpha, bound=bound, seed=seed)
    found = rule.certify(Tally({0: [10] + [0] * (len(votes) - 1)}, {0: votes}, image=image))
    assert found is not None
    return found


@pytest.mark.parametrize("bound", BOUNDS)
def test_every_bound_certifies_a_sure_class_abstains_from_a_rare_one_and_reaches_no_further_than_it_says(bound):
    sure, rare = certificate(bound, [200, 0, 0]), certificate(bound, [20, 90, 90])
    assert sure.predicted == 0 and sure.rule.startswith(f"{bound} (N0 = 10, N = 200")
    assert 0 < sure.radius <= FixedN(SIGMA, 10, 200, ALPHA, bound=bound).largest < 4 * SIGMA
    assert rare.predicted is None and rare.radius == 0
    assert FixedN(SIGMA, 10, 200, ALPHA, bound=bound).identity == ""


@pytest.mark.parametrize("bound", BOUNDS)
def test_more_hits_never_certify_less(bound):
    radii = [certificate(bound, [hits, 300 - hits, 0]).radius for hits in range(150, 301, 5)]
    assert all(a <= b for a, b in pairwise(radii)) and radii[-1] > radii[0]


def test_the_two_sided_interval_is_clopper_and_pearsons():
    found = certificate("two-sided", [180, 20])
    exact = stats.binomtest(180, 200).proportion_ci(1 - ALPHA, method="exact")
    assert (found.p_lower, found.p_upper) == pytest.approx((exact.low, exact.high), abs=1e-9)
    assert found.radius == pytest.approx(SIGMA * stats.norm.ppf(exact.low))
    assert clopper_pearson_upper(50, 50, ALPHA) == 1


@pytest.mark.parametrize("p", [0.02, 0.5, 0.83, 0.99])
def test_the_two_sided_interval_covers_as_often_as_it_promises(p):
    n, hits = 60, np.arange(61)
    low = np.array([clopper_pearson_lower(int(k), n, ALPHA / 2) for k in hits])
    high = np.array([clopper_pearson_upper(int(k), n, ALPHA / 2) for k in hits])
    assert stats.binom.pmf(hits, n, p)[(p < low) | (p > high)].sum() <= ALPHA


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_the_randomised_bound_errs_with_probability_alpha_exactly(p, alpha):
    """The bound falls with the uniform number, so it errs below one number for each count of hits: no simulation."""
    n = 25
    error = 0.0
    for hits, mass in enumerate(stats.binom.pmf(np.arange(n + 1), n, p)):
        low, high = 0.0, 1.0  # errs (bound above p) for uniforms below
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if randomised_lower(hits, n, alpha, middle) > p else (low, middle)
        error += mass * low
    cut = p > randomised_lower(n, n, alpha, 0.0)  # only there is the bound cut short
    assert error == pytest.approx(0 if cut else alpha, abs=1e-9)


def test_the_randomised_bound_lies_between_those_of_clopper_and_pearson():
    assert randomised_lower(40, 50, ALPHA, 1.0) == pytest.approx(clopper_pearson_lower(40, 50, ALPHA))
    assert randomised_lower(40, 50, ALPHA, 0.0) == pytest.approx(clopper_pearson_lower(41, 50, ALPHA))
    assert randomised_lower(0, 50, ALPHA, 0.5) == 0 < randomised_lower(0, 50, ALPHA, 0.01)
    assert clopper_pearson_lower(50, 50, ALPHA) < randomised_lower(50, 50, ALPHA, 0.9) < 1


def test_the_uniform_number_belongs_to_the_seed_and_the_image():
    bounds = {certificate("randomised", [180, 20], image, seed=seed).p_lower for image in range(5) for seed in (0, 1)}
    assert len(bounds) == 10
    assert certificate("randomised", [180, 20], 3) == certificate("randomised", [180, 20], 3)
    uniforms = [FixedN(1, 1, 1, 0.1, bound="randomised")._uniform(Tally(image=i)) for i in range(2000)]
    assert stats.kstest(uniforms, "uniform").pvalue > 1e-3
    with pytest.raises(ValueError, match="image"):
        FixedN(SIGMA, 1, 1, ALPHA, bound="randomised").certify(Tally({0: [1]}, {0: [1]}))


def true_radius(p: np.ndarray) -> float:
    """Of class 0, given the probabilities of all classes."""
    return float(SIGMA / 2 * (stats.norm.ppf(p[0]) - stats.norm.ppf(p[1:].max())))


@pytest.mark.parametrize("p", [(0.4, 0.3, 0.3), (0.7, 0.2, 0.1), (0.34, 0.33, 0.33), (0.9, 0.1, 0.0)])
def test_the_multi_class_radius_is_too_large_with_probability_alpha_at_most(p):
    """Exactly, over all counts of 40 draws."""
    n, truth, alpha = 40, true_radius(np.array(p)), 0.2
    outcomes = [(a, b, n - a - b) for a in range(n + 1) for b in range(n + 1 - a)]
    claims = np.array([_multi_class(votes, 0, SIGMA, alpha, 1.0).radius for votes in outcomes])
    law = stats.multinomial.pmf(outcomes, n, p)
    assert law.sum() == pytest.approx(1)
    assert law[claims > truth + 1e-12].sum() <= alpha
    assert (claims > 0).any()


def test_the_multi_class_rule_certifies_without_a_majority_and_loses_a_little_with_one():
    many = [450] + [110] * 5
    assert certificate("cohen", many).predicted is None
    found = certificate("multi-class", many)
    assert found.predicted == 0 and found.p_lower < 0.5 and found.radius > 0
    two = [900, 100]
    assert certificate("multi-class", two).radius == pytest.approx(certificate("two-sided", two).radius)


def evidence_crossing(bound: Callable[[int, int, float], float], n: int, t: Fraction, alpha: float) -> Fraction:
    """P(bound > t at some number of draws up to n) when pA = t, over all paths, in fractions."""
    law, crossed = {0: Fraction(1)}, Fraction(0)
    for draws in range(1, n + 1):
        step: dict[int, Fraction] = {}
        for hits, mass in law.items():
            step[hits] = step.get(hits, Fraction(0)) + mass * (1 - t)
            step[hits + 1] = step.get(hits + 1, Fraction(0)) + mass * t
        over = [hits for hits in step if bound(hits, draws, alpha) > float(t)]
        crossed += sum((step.pop(hits) for hits in over), Fraction(0))
        law = step
    return crossed


@pytest.mark.parametrize("bound", [anytime_lower, e_process_lower])
@pytest.mark.parametrize("t", [Fraction(1, 2), Fraction(7, 10), Fraction(19, 20)])
def test_the_anytime_bounds_hold_at_all_numbers_of_draws_together(t, bound):
    crossing = evidence_crossing(bound, 120, t, 0.1)
    assert 0 < crossing <= Fraction(1, 10)


@pytest.mark.parametrize(("hits", "draws"), [(170, 200), (999, 1000), (1000, 1000), (52_000, 100_000)])
def test_a_prior_of_its_own_for_each_threshold_makes_the_anytime_bound_higher(hits, draws):
    found, plain = e_process_lower(hits, draws, 0.001), anytime_lower(hits, draws, 0.001)
    assert plain < found < clopper_pearson_lower(hits, draws, 0.001)
    for t in np.linspace(0.5, found, 50):  # every smaller threshold is proved, too, so one claim includes them all
        grid = t + (1 - t) * (np.arange(200_000) + 0.5) / 200_000
        density = stats.beta.pdf(grid, 0.5, 0.5) / stats.beta.sf(t, 0.5, 0.5) * (1 - t) / 200_000
        log = hits * np.log(grid / t) + (draws - hits) * np.log((1 - grid) / (1 - t))
        assert logsumexp(log + np.log(density)) >= np.log(1000) - 0.02


def test_the_anytime_bound_is_the_largest_threshold_at_which_the_evidence_suffices():
    hits, draws, alpha = 170, 200, 0.01
    found = anytime_lower(hits, draws, alpha)
    grid = np.linspace(0.5, 1, 200_001)[:-1] + 1.25e-6  # midpoints
    density = stats.beta.pdf(grid, 0.5, 0.5) * 2
    for t, enough in ((found - 1e-3, True), (found + 1e-3, False)):
        ratio = np.exp(hits * np.log(grid / t) + (draws - hits) * np.log((1 - grid) / (1 - t)))
        evidence = (density * ratio)[grid > t].sum() * (grid[1] - grid[0])
        assert (evidence >= 1 / alpha) == enough
    assert found < clopper_pearson_lower(hits, draws, alpha)  # what it costs to be allowed to go on


def test_the_anytime_rule_goes_on_from_what_is_counted():
    rule = FixedN(SIGMA, 10, 300, 0.001, bound="anytime")
    tally = Tally({0: [10, 0]}, {0: [99, 1]})
    assert sum(r.draws for r in rule.missing(tally)) == 200
    assert anytime_lower(0, 0, 0.01) == anytime_lower(5, 10, 0.01) == anytime_lower(0, 10, 0.01) == 0
    assert math.isfinite(anytime_lower(100_000, 100_000, 0.001)) and anytime_lower(100_000, 100_000, 0.001) < 1


def test_radii_of_three_digits_are_those_of_published_logs_and_nothing_else_changes():
    """Their code prints `{:.3}`, which rounds every second radius up past what was certified."""
    full, printed = FixedN(SIGMA, 10, 400, ALPHA), FixedN(SIGMA, 10, 400, ALPHA, digits=3)
    up = 0
    for hits in range(401):
        tally = Tally({0: [10, 0]}, {0: [hits, 400 - hits]}, image=0)
        exact, rounded = full.certify(tally), printed.certify(tally)
        assert exact is not None and rounded is not None
        assert f"{rounded.radius:.12g}" == f"{float(f'{exact.radius:.3}'):.12g}"
        assert replace(rounded, radius=exact.radius, rule=exact.rule) == exact
        up += rounded.radius > exact.radius
    assert 50 < up < 150  # of the 200 that certify
    assert printed.rule == "cohen (N0 = 10, N = 400, alpha = 0.05, radii rounded to 3 digits)"
    assert printed.largest == float(f"{full.largest:.3}") and full.identity == printed.identity


def test_by_default_a_sweep_keeps_all_digits():
    sweep = {"certifier": "cohen", "n0": 10, "n": 400, "alpha": ALPHA, "block": 100}
    assert of_sweep(sweep, SIGMA) == FixedN(SIGMA, 10, 400, ALPHA)
    assert of_sweep({**sweep, "radius_digits": 3}, SIGMA) == FixedN(SIGMA, 10, 400, ALPHA, digits=3)
