"""Budgets, names and numbers as the report writes them."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.report.decisions import _MOST_BUDGETS, _round_between, _thinned
from bench.report.figures import short


@given(st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=30))
def test_budgets_of_milliseconds_are_round_and_let_something_in_and_leave_something_out(values):
    for limit in _round_between(pd.Series(values)):
        assert min(values) <= limit < max(values)
        assert f"{limit:e}"[0] in "125" and float(f"{limit:.0e}") == limit


@given(st.lists(st.integers(0, 1000), max_size=60, unique=True).map(sorted))
def test_thinned_budgets_keep_the_first_and_the_last(values):
    kept = _thinned(values)
    assert len(kept) == min(len(values), _MOST_BUDGETS) and sorted(set(kept)) == kept
    assert not values or (kept[0], kept[-1]) == (values[0], values[-1])


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0.30049, "0.3"),
        (1.0, "1"),
        (123.4, "123"),
        (1634.2, "1,634"),
        (5e-7, "5e-07"),
    ],
)
def test_numbers_have_three_digits(value, words):
    assert short(value) == words
