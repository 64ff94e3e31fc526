"""The test of a race: its error, its power, and what unknown images do to it."""

from __future__ import annotations

import numpy as np
import pytest

from bench.racing.betting import log_evidence, threshold


def equal_pair(population, discordant):
    """Differences of two candidates that certify equally many images: as many won as lost."""
    differences = np.zeros(population)
    differences[: discordant // 2], differences[discordant // 2 : discordant] = 1, -1
    return differences


@pytest.mark.parametrize(("population", "discordant"), [(60, 60), (200, 20), (200, 120)])
def test_equal_candidates_are_told_apart_as_rarely_as_the_level_says(population, discordant):
    level, rng = 0.1, np.random.default_rng(0)
    orders = rng.permuted(np.tile(equal_pair(population, discordant), (4000, 1)), axis=1)
    wrong = (log_evidence(orders, population, 0.0) >= threshold(1, level)).mean()
    assert wrong <= level + 3 * np.sqrt(level * (1 - level) / 4000)
    assert wrong > level / 20, "a test that never errs wastes draws"


def test_a_candidate_at_the_margin_is_shown_to_be_within_it_as_rarely_as_the_level_says():
    level, population, rng = 0.1, 200, np.random.default_rng(1)
    differences = equal_pair(population, 40)
    differences[-6:] = -1  # 3 % behind: exactly the margin
    orders = rng.permuted(np.tile(differences, (4000, 1)), axis=1)
    assert (log_evidence(orders, population, -0.03) >= threshold(1, level)).mean() <= level + 0.015


def test_looking_after_every_image_does_not_raise_the_error():
    """The evidence is the highest so far, so a look at every prefix finds no more than the last look."""
    rng, population = np.random.default_rng(2), 100
    differences = rng.permutation(equal_pair(population, 50))
    looks = [log_evidence(differences[:t], population, 0.0) for t in range(1, population + 1)]
    assert looks == sorted(looks)
    assert looks[-1] == log_evidence(differences, population, 0.0)


def test_all_images_tell_any_difference():
    differences = equal_pair(50, 20)
    differences[-1] = 1  # one image more
    assert log_evidence(differences, 50, 0.0) == np.inf
    assert log_evidence(equal_pair(50, 20), 50, 0.0) < np.inf


def test_a_part_of_the_images_tells_a_large_difference():
    rng = np.random.default_rng(3)
    differences = rng.permutation(np.repeat([1.0, 0.0, -1.0], [60, 420, 20]))
    assert log_evidence(differences[:400], 500, 0.0) > threshold(25, 0.025)


def test_lower_bounds_never_give_more_evidence_than_the_truth():
    rng = np.random.default_rng(4)
    truth = rng.choice([-1.0, 0.0, 1.0], p=(0.1, 0.5, 0.4), size=(300, 80))
    bounds = np.where(rng.random(truth.shape) < 0.3, np.maximum(truth - rng.integers(1, 3, truth.shape), -1), truth)
    known, true = log_evidence(bounds, 100, 0.0), log_evidence(truth, 100, 0.0)
    assert (known <= true + 1e-12).all()
    assert (known < true).mean() > 0.5


def test_no_images_are_no_evidence():
    assert log_evidence(np.empty((3, 0)), 10, 0.0).tolist() == [0, 0, 0]
