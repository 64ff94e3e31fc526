"""A verdict at one radius before all draws are made: it never contradicts the certificate that they give."""

from __future__ import annotations

import numpy as np
import pytest

from bench.certify import FixedN, Sequential, Tally
from bench.certify.fixed import BOUNDS

LABEL, CLASSES = 1, 3


def answered(rule, probabilities, rng):
    """Tallies of one image, after every block that the rule asks for; the last one is complete."""
    tally, states = Tally({}, {}, 5, LABEL), []
    while requests := rule.missing(tally):
        for request in requests:
            getattr(tally, request.stage)[request.first] = tuple(rng.multinomial(request.draws, probabilities))
            states.append(Tally(dict(tally.select), dict(tally.estimate), 5, LABEL))
    return states


def certified(rule, tally, radius):
    c = rule.certify(tally)
    return c.predicted == LABEL and c.radius >= radius


RULES = [FixedN(0.5, 4, 60, 0.01, 5, bound) for bound in BOUNDS]
RULES += [FixedN(0.5, 4, 60, 0.01, 5, digits=1)]
RULES += [Sequential(0.5, (0.0, 0.25, 0.5), 4, 0.01, n_max=300, block=20, label_aware=aware) for aware in (False, True)]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.rule)
def test_a_verdict_that_is_known_early_is_that_of_the_full_rule(rule):
    rng, known, open_images = np.random.default_rng(0), 0, 0
    for share in np.linspace(0.3, 1, 40):
        states = answered(rule, (share * 0 + (1 - share) / 2, share, (1 - share) / 2), rng)
        for radius in (0.0, 0.25, 0.5):
            final = certified(rule, states[-1], radius)
            verdicts = [rule.reaches(state, radius) for state in states]
            assert verdicts[-1] is final
            assert set(verdicts) <= {None, final}
            known += sum(v is not None for v in verdicts[:-1])
            open_images += verdicts.count(None)
    assert known > 100 and open_images > 100


def test_one_miss_decides_where_every_draw_must_hit():
    rule = FixedN(0.5, 2, 40, 0.001)
    tally = Tally({0: (0, 2)}, {0: (0, 10)}, 0, 1)
    assert rule.reaches(tally, 0.5) is None
    assert rule.reaches(Tally({0: (0, 2)}, {0: (1, 9)}, 0, 1), 0.5) is False
    assert rule.reaches(Tally({0: (2, 0)}, {}, 0, 1), 0.0) is False, "the selected class is wrong"
    assert rule.reaches(Tally({}, {}, 0, 1), 0.5) is None


def test_enough_hits_decide_before_the_last_draw():
    rule = FixedN(0.5, 2, 40, 0.001)
    tally = Tally({0: (0, 2)}, {0: (0, 35)}, 0, 1)
    assert rule.reaches(tally, 0.0) is True
    assert rule.reaches(tally, 0.5) is None
