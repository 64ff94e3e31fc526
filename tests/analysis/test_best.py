"""Comparisons with a best that the same images chose: how often they err, and what they find."""

import numpy as np
import pytest

from bench.summary.statistics import accuracy_difference, against_best

IMAGES, RUNS = 500, 100


def equal(kind, columns, rng):
    """Certified images of so many purifiers that are equally good, bool `[images, columns]`."""
    if kind == "alike":  # the same images, but for one in twenty-five
        return (rng.random(IMAGES) < 0.5)[:, None] ^ (rng.random((IMAGES, columns)) < 0.04)
    easy = rng.beta(0.3, 0.3, IMAGES)  # most images are easy or hopeless for every purifier
    return rng.random((IMAGES, columns)) < easy[:, None]


def p_values(hits):
    best = int(hits.mean(axis=0).argmax())
    alone = [accuracy_difference(hits[:, best], column).p for column in hits.T]
    corrected = against_best(hits, best, alone)
    return [corrected[i] for i in range(hits.shape[1]) if i != best], alone, corrected


@pytest.mark.parametrize("columns", [12, 36])
@pytest.mark.parametrize("kind", ["alike", "easy or hopeless"])
def test_of_equal_purifiers_one_is_called_lower_in_no_more_than_five_percent_of_runs(kind, columns, monkeypatch):
    monkeypatch.setattr("bench.summary.statistics._TEST_RESAMPLES", 1000)
    rng = np.random.default_rng(columns)
    wrong = np.mean([min(p_values(equal(kind, columns, rng))[0]) <= 0.05 for _ in range(RUNS)])
    assert wrong <= 0.05 + 2.33 * (0.05 * 0.95 / RUNS) ** 0.5  # 1 % above its level


def test_a_purifier_that_is_clearly_lower_is_found_among_thirty_six():
    hits = equal("easy or hopeless", 36, np.random.default_rng(0))
    hits[:, 0] &= np.random.default_rng(1).random(IMAGES) < 0.7
    found, _, corrected = p_values(hits)
    assert corrected[0] < 0.01 and sum(p <= 0.05 for p in found) <= 3


def test_the_correction_never_helps_a_difference():
    _, alone, corrected = p_values(equal("alike", 5, np.random.default_rng(3)))
    assert all(after >= before for before, after in zip(alone, corrected, strict=True))
    same = np.repeat(equal("alike", 1, np.random.default_rng(4)), 3, axis=1)
    assert p_values(same)[0] == [1.0, 1.0] and against_best(same[:1], 0, [1.0] * 3) == [1.0] * 3
