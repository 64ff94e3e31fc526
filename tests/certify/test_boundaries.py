"""The boundaries: their guarantee confirmed by the recursion, by fractions, by brute force and by simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import beta, binom, norm

from bench.certify.boundaries import _SLACK, PRESETS, Constants, boundaries, crossing_probability

RADII = (0.0, 0.25, 0.5, 0.75, 1.0)
TINY = Constants(lambda0=30.0, power=0.5, n_max=40, n_first=8)


def exact_law(t: Fraction, looks: np.ndarray, upper: np.ndarray) -> Iterator[tuple[dict[int, Fraction], Fraction]]:
    """Brute force in fractions: the law of the hits at each look before crossing is removed, and what is crossed."""
    law, before = {0: Fraction(1)}, 0
    for n, u in zip(looks.tolist(), upper.tolist(), strict=True):
        for _ in range(n - before):  # one draw at a time
            after: dict[int, Fraction] = {}
            for hits, q in law.items():
                after[hits] = after.get(hits, Fraction(0)) + q * (1 - t)
                after[hits + 1] = after.get(hits + 1, Fraction(0)) + q * t
            law = after
        before = n
        yield law, sum((q for hits, q in law.items() if hits >= u), Fraction(0))
        law = {hits: q for hits, q in law.items() if hits < u}


def relative_price(t: float, c: Constants) -> float:
    """The rule's x, written out once more."""
    v = t * (1 - t) / norm.pdf(norm.ppf(t)) ** 2 / (math.pi / 2)
    return min(c.lambda0 * v**c.power, 30 * c.n_max) / c.n_max


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("sigma", [0.25, 0.5, 1.0])
def test_thecrossing_probability_never_exceeds_alpha(preset: str, sigma: float) -> None:
    b = boundaries(sigma, RADII, 0.001, PRESETS[preset])
    assert (b.crossing <= 0.001).all() and (b.crossing[b.alive] > 0.0007).all()
    below = np.nextafter(b.thresholds[b.alive], 0)
    assert (crossing_probability(below, b.looks, b.upper[b.alive]) <= 0.001).all()
    further = crossing_probability(below - 0.002, b.looks, b.upper[b.alive])
    assert (further <= b.crossing[b.alive]).all()


@pytest.mark.parametrize("radius", [0.0, 0.2, 0.5])
def test_fractions_confirm_the_boundary_and_itscrossing_probability(radius: float) -> None:
    alpha = 0.05
    b = boundaries(0.5, [radius], alpha, TINY)
    t = Fraction(float(b.thresholds[0]))
    spent, x = Fraction(0), relative_price(float(b.thresholds[0]), TINY)
    for k, (law, crossed) in enumerate(exact_law(t, b.looks, b.upper[0])):
        budget = alpha * min(1, 0.85 * x**-0.5) * math.sqrt(b.looks[k] / TINY.n_max) if k + 1 < len(b.looks) else alpha
        room = Fraction(budget) - spent - Fraction(_SLACK)
        one_less = sum((q for hits, q in law.items() if hits >= b.upper[0, k] - 1), Fraction(0))
        assert crossed <= room < one_less
        spent += crossed
    assert spent <= Fraction(alpha)
    assert abs(float(spent) - b.crossing[0]) < 1e-12


def test_a_recursion_without_windows_agrees_at_full_length() -> None:
    b = boundaries(0.5, [0.5], 0.001, PRESETS["tight"])
    law, crossed = np.ones(1), 0.0
    for n, draws, u in zip(b.looks, np.diff(b.looks, prepend=0), b.upper[0], strict=True):
        if n > 30_000:
            break
        law = np.convolve(law, binom.pmf(np.arange(draws + 1), draws, b.thresholds[0]))
        crossed += law[u:].sum()
        law = law[:u]
    seen = b.looks <= 30_000
    assert 0 <= crossing_probability(b.thresholds, b.looks[seen], b.upper[:, seen])[0] - crossed < 1e-12


def test_simulated_paths_cross_as_often_as_the_recursion_says() -> None:
    b = boundaries(0.5, RADII, 0.05, PRESETS["fast"])
    rng, paths = np.random.default_rng(3), 20_000
    for j in range(len(RADII)):
        hits, crossed = np.zeros(paths, dtype=np.int64), np.zeros(paths, dtype=bool)
        for draws, u in zip(np.diff(b.looks, prepend=0), b.upper[j], strict=True):
            hits += rng.binomial(draws, b.thresholds[j], paths)
            crossed |= hits >= u
        assert abs(crossed.mean() - b.crossing[j]) < 4.5 * math.sqrt(0.05 * 0.95 / paths)


@pytest.mark.parametrize("preset", PRESETS)
def test_boundaries_are_monotone_in_radius_and_looks(preset: str) -> None:
    b = boundaries(1.25, np.arange(150) / 100, 0.001, PRESETS[preset])  # neighbours so close that ties occur
    for boundary in (b.upper, b.give_up):
        assert (np.diff(boundary, axis=0) >= 0).all()
        assert (np.diff(boundary[b.alive], axis=1) >= 0).all()
    assert (b.give_up[:, -1] == b.looks[-1]).all()


def test_looks_grow_by_15_percent_and_end_at_n_max() -> None:
    looks = PRESETS["tight"].looks
    assert looks[:4] == (100, 115, 133, 153) and looks[-1] == 100_000
    rounded = replace(PRESETS["tight"], multiple=64).looks
    assert all(n % 64 == 0 for n in rounded[:-1]) and rounded[-1] == 100_000
    assert all(a < b <= math.ceil(1.15 * a) + 64 for a, b in pairwise(rounded))


@pytest.mark.parametrize(
    ("sigma", "radii", "alpha"),
    [(0, (0.0,), 0.01), (1, (0.2, 0.1), 0.01), (1, (-0.1,), 0.01), (1, (), 0.01), (1, (0,), 0)],
)
def test_input_out_of_range_is_refused(sigma: float, radii: tuple[float, ...], alpha: float) -> None:
    with pytest.raises(ValueError, match="must be"):
        boundaries(sigma, radii, alpha, TINY)


@pytest.mark.parametrize("constants", [replace(TINY, n_first=2, lambda0=400.0), Constants(400.0, 0.5, 2000, 10)])
def test_a_radius_is_given_up_at_the_last_count_that_predicts_too_little(constants: Constants) -> None:
    b, n_max = boundaries(0.5, [0.2], 0.05, constants), constants.n_max
    x, target = relative_price(float(b.thresholds[0]), constants), b.upper[0, -1] / n_max
    patience = n_max * min(1, 0.15 * x ** (0.37 if x >= 1 else 0.76))
    for k, n in enumerate(b.looks[:-1].tolist()):
        f = n_max / (n_max - n)
        chance = beta.sf(target, 0.5 + np.arange(n + 1) * f, 0.5 + (n - np.arange(n + 1)) * f)
        hopeless = np.flatnonzero(chance < min(0.85, 0.4 / x) * min(1, n / patience))
        assert b.give_up[0, k] == max([-1, *hopeless])


def test_everything_that_a_reader_needs_survives_json() -> None:
    b = boundaries(0.25, RADII, 0.001, TINY)
    read = json.loads(json.dumps(b.as_dict()))
    assert read["looks"] == list(TINY.looks) and np.array(read["upper"]).shape == (5, len(TINY.looks))
    assert read["alive"] == [True, True, False, False, False]
