"""Counts change only with a version number: every purifier, the noise and every certifier have golden values."""

import json

import golden
import pytest

STORED = json.loads(golden.FILE.read_text())
REMEDY = "raise the version number of what changed and run `python -P tests/golden.py`"


def test_the_golden_values_are_of_these_version_numbers():
    assert STORED["versions"] == golden.VERSIONS, REMEDY


@pytest.fixture(scope="module")
def votes():
    return golden.votes()


@pytest.mark.parametrize("purifier", STORED["votes"])
def test_a_purifier_gives_its_golden_votes(votes, purifier):
    stored, now = STORED["votes"][purifier], votes[purifier]
    assert now["means"] == pytest.approx(stored["means"], abs=1e-3), REMEDY
    sure = [pair for pair in zip(stored["classes"], now["classes"], strict=True) if None not in pair]
    assert len(sure) >= len(now["classes"]) / 3, "too few draws have a clear vote"
    assert all(old == new for old, new in sure), REMEDY


def test_every_purifier_of_the_benchmark_has_golden_votes(votes):
    assert set(votes) == set(STORED["votes"]), REMEDY


def test_the_noise_is_golden():
    for stream, values in golden.noise().items():
        assert values == pytest.approx(STORED["noise"][stream], abs=1e-5), REMEDY


@pytest.mark.parametrize("rule", STORED["certificates"])
def test_a_certifier_gives_its_golden_certificate(rule):
    predicted, draws, radius = golden.certificates()[rule]
    assert [predicted, draws] == STORED["certificates"][rule][:2], REMEDY
    assert radius == pytest.approx(STORED["certificates"][rule][2], abs=1e-9), REMEDY
