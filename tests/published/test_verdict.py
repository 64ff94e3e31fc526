"""A run reproduces a figure if its accuracy lies in the figure's interval: and nothing else is called so."""

from __future__ import annotations

import pytest
from summaries import Row, hits, summary_of

from bench.errors import InputError
from bench.published.figures import Figure
from bench.published.verdict import (
    INSIDE,
    NO_INTERVAL,
    NOT_ENTERED,
    NOT_MEASURED,
    OUTSIDE,
    TOO_FEW,
    Verdict,
    verdicts,
)

FACTS = {
    **{"source": "A", "url": "https://example.org", "method": "m", "dataset": "cifar10", "radius": 0.25, "value": 0.5},
    **{"decimals": 3, "images": 500, "sigma": 0.5, "best_of": (), "n": None, "alpha": None, "hardware": ""},
    **{"read": "table", "where": "", "preset": "p", "purifier": "onestep-edm", "file": "a.toml"},
}


def row(count: int, images: int = 500, sigma: float = 0.5, label: str = "onestep-edm", **facts) -> Row:
    cell = {"dataset": "cifar10", "split": "test", **facts.pop("cell", {})}
    return Row(label, hits(images, range(count), radius=0.3), sigma=sigma, cell=cell, **facts)


def verdict(*rows: Row, **facts) -> Verdict:
    (found,) = verdicts(summary_of(*rows), [Figure(**{**FACTS, **facts})])
    return found


# Wilson's interval of 250 of 500 is [0.456, 0.544], for hits from 228.2 to 271.8.
@pytest.mark.parametrize(
    ("count", "word"), [(250, INSIDE), (229, INSIDE), (228, OUTSIDE), (271, INSIDE), (272, OUTSIDE)]
)
def test_the_ends_of_the_interval_decide(count, word):
    found = verdict(row(count))
    assert found.verdict == word and (found.hits, found.images, found.accuracy) == (count, 500, count / 500)


def test_the_rounding_of_a_value_widens_its_interval():
    assert verdict(row(272)).verdict == OUTSIDE
    assert verdict(row(272), decimals=2).verdict == INSIDE


def test_few_images_say_nothing_unless_both_intervals_are_apart():
    assert verdict(row(5, images=10)).verdict == TOO_FEW  # though half of them are certified
    assert verdict(row(7, images=10)).verdict == TOO_FEW
    assert verdict(row(10, images=10)).verdict == OUTSIDE


def test_a_figure_without_a_value_is_said_not_to_be_entered_and_the_run_is_told_all_the_same():
    found = verdict(row(250), value=None)
    assert found.verdict == NOT_ENTERED and found.accuracy == 0.5


def test_a_figure_without_a_number_of_images_is_never_reproduced():
    assert verdict(row(250), images=None).verdict == NO_INTERVAL


def test_a_figure_of_the_best_noise_level_is_compared_with_the_best_of_the_same_ones():
    rows = row(200, sigma=0.25), row(250, sigma=0.5), row(400, sigma=1.0)
    found = verdict(*rows, sigma=None, best_of=(0.25, 0.5))
    assert (found.verdict, found.sigma, found.hits) == (INSIDE, 0.5, 250)
    missing = verdict(*rows, sigma=None, best_of=(0.12, 0.25))
    assert missing.verdict == NOT_MEASURED and "no sigma 0.12" in missing.why


def test_the_best_noise_level_may_be_the_only_one_whose_draws_reach_the_radius():
    rows = row(200, sigma=0.25, largest=0.2), row(250, sigma=0.5)
    found = verdict(*rows, sigma=None, best_of=(0.25, 0.5))
    assert (found.verdict, found.sigma) == (INSIDE, 0.5)


@pytest.mark.parametrize(
    ("own", "facts", "why"),
    [
        ({"cell": {"dataset": "cifar10-jpeg"}}, {}, "cifar10-jpeg"),
        ({"cell": {"split": "val"}}, {}, "test images"),
        ({"wanted": 600}, {}, "not complete"),
        ({"error": "returned NaN"}, {}, "failed"),
        ({"largest": 0.2}, {}, "cannot certify"),
        ({}, {"purifier": "consistency"}, "no purifier 'consistency'"),
        ({}, {"sigma": 0.25}, "no sigma 0.25"),
        ({"rule": "sequential fast (N0 = 10)"}, {"radius": 0.3}, "other radii"),
    ],
)
def test_what_was_not_measured_is_no_verdict(own, facts, why):
    found = verdict(row(250, **own), **facts)
    assert found.verdict == NOT_MEASURED and found.accuracy is None and why in found.why


def test_a_sequential_rule_is_judged_at_the_radii_that_it_decides():
    assert verdict(row(250, rule="sequential fast (N0 = 10)")).verdict == INSIDE


def test_a_purifier_of_several_rows_is_refused_and_named_by_its_parameters():
    rows = row(250, label="ddim(steps=2)"), row(100, label="ddim(steps=3)")
    with pytest.raises(InputError, match=r"ddim\(steps=2\)"):
        verdict(*rows, purifier="ddim")
    assert verdict(*rows, purifier="ddim(steps=2)").verdict == INSIDE


def test_figures_without_a_purifier_are_not_judged():
    assert verdicts(summary_of(row(250)), [Figure(**{**FACTS, "purifier": None})]) == []
