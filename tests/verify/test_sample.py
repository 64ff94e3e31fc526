"""The blocks that are counted again, the smallest edit that they find, and the votes that may differ."""

from __future__ import annotations

from itertools import product
from math import comb, prod

import numpy as np
import pandas as pd
import pytest

from bench.verify.sample import choose, smallest_edit
from bench.verify.tolerance import RATE, Tolerance, Vote, excesses, tolerance_of


def _table(cells: dict[str, int]) -> pd.DataFrame:
    rows = [(cell, image, "estimate", 0) for cell, images in cells.items() for image in range(images)]
    return pd.DataFrame(rows, columns=["cell", "image", "stage", "first"])


def test_the_choice_depends_on_the_seed_and_on_no_order_and_takes_some_of_each_cell():
    blocks = _table({"a": 100, "b": 7})
    chosen, sizes = choose(blocks, 0.1, 1)
    assert sizes == [(100, 10), (7, 1)] and len(set(chosen)) == 11
    shuffled = blocks.sample(frac=1, random_state=0).reset_index(drop=True)
    again, _ = choose(shuffled, 0.1, 1)
    assert set(map(tuple, blocks.iloc[chosen].values)) == set(map(tuple, shuffled.iloc[again].values))
    assert set(choose(blocks, 0.1, 2)[0]) != set(chosen)
    assert len(choose(blocks, 1, 0)[0]) == 107


@pytest.mark.parametrize(("sizes", "share"), [([(40, 4)], 0.1), ([(30, 3), (20, 2), (5, 1)], 0.1)])
def test_the_smallest_edit_is_the_least_that_is_found_wherever_it_is(sizes, share):
    """By the exact probability of every way to spread so many edits over the cells."""
    edits = smallest_edit(sizes)

    def worst(count):
        ways = product(*(range(min(count, n) + 1) for n, _ in sizes))
        missed = (
            prod(comb(n - k, m) / comb(n, m) for (n, m), k in zip(sizes, way, strict=True))
            for way in ways
            if sum(way) == count
        )
        return max(missed)

    assert worst(edits) <= 0.05 < worst(edits - 1)
    assert smallest_edit([(n, n) for n, _ in sizes]) == 1


def test_the_tolerance_is_none_only_on_the_same_device_and_torch():
    manifest = {"libraries": {"torch": "2.11"}, "sessions": [{"libraries": {"torch": "2.11"}}]}
    assert tolerance_of(manifest, ["CPU"], ["CPU"], "2.11").exact
    for others in ((["CPU", "GPU"], ["CPU"], "2.11"), (["GPU"], ["CPU"], "2.11"), (["CPU"], ["CPU"], "2.12")):
        assert not tolerance_of(manifest, *others).exact
    earlier = {**manifest, "sessions": [{"libraries": {"torch": "2.10"}}]}
    assert not tolerance_of(earlier, ["CPU"], ["CPU"], "2.11").exact


def test_rounding_is_seldom_taken_for_an_edit_and_each_kind_of_edit_has_its_test():
    loose, names = Tolerance(False, ""), {"a": "none"}
    rng = np.random.Generator(np.random.PCG64(0))
    blamed = 0
    for _ in range(200):
        moved = rng.binomial(100, RATE, 300)
        side = rng.choice([-1, 1], 300)
        blamed += bool(excesses([Vote("a", 100, m, s * m) for m, s in zip(moved, side, strict=True)], loose, names))
    assert blamed <= 2
    assert "votes differ" in excesses([Vote("a", 100, 1, 0)] * 300, loose, names)[0]
    both = [Vote("a", 100, 0, 0)] * 2000 + [Vote("b", 100, 3, s) for s in (-1, 1)] * 15
    assert [line[:5] for line in excesses(both, loose, {**names, "b": "other"})] == ["other"]
    assert "in one" in excesses([Vote("a", 100, 25, 0), *[Vote("a", 100, 0, 0)] * 300], loose, names)[0]
    assert "no such preference" in excesses([Vote("a", 100, 1, 1)] * 12 + [Vote("a", 100, 0, 0)] * 300, loose, names)[0]
