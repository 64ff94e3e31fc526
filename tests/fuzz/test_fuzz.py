"""The fuzzer itself: it tells the outcomes apart, its faults change files, and a short round of it finds nothing."""

from __future__ import annotations

import math
import subprocess
import sys
from random import Random

import pytest
from conftest import ROOT
from fuzz import faults
from fuzz.reading import (
    NOTED,
    OUTSIDE,
    REFUSED,
    RIGHT,
    TRACEBACK,
    UNNAMED,
    WRONG,
    Answer,
    alike,
    judge,
    plain,
    snapshot,
)

EXPECTED = Answer(0, "", '{"acr": 0.5}', {"audit: 10 draws"})


@pytest.mark.parametrize(
    ("answer", "changed", "outcome"),
    [
        (Answer(0, "", {"acr": 0.5}), [], RIGHT),
        (Answer(0, "", {"acr": 0.6}), [], WRONG),
        (Answer(0, "", {"acr": 0.6}, {"audit: 10 draws"}), [], WRONG),
        (Answer(0, "", {"acr": 0.6}, {"counted with another library"}), [], WRONG),
        (Answer(0, "", {"acr": 0.6}, {"metrics.json is damaged"}), [], NOTED),
        (Answer(2, "error: counts.parquet is damaged"), [], REFUSED),
        (Answer(2, "error: something is damaged"), [], UNNAMED),
        (Answer(1, "", error="Traceback"), [], TRACEBACK),
        (Answer(2, "error: counts.parquet is damaged"), ["/outside/new.txt"], OUTSIDE),
    ],
)
def test_outcomes_are_told_apart(tmp_path, answer, changed, outcome):
    assert judge(answer, EXPECTED, tmp_path / "case", tmp_path / "counts.parquet", changed) == outcome


def test_figures_are_compared_without_the_folder_of_the_case_and_as_float32(tmp_path):
    assert plain(Answer(0, "", [str(tmp_path), {"x": 1}]), tmp_path) == '["CASE", {"x": 1}]'
    assert alike({"x": [0.12345678, None, 3]}, {"x": [0.12345681, None, 3]}) and alike([math.nan], [math.nan])
    for other in ({"x": [0.1234588, None, 3]}, {"x": [0.12345678, None]}, {"y": [0.12345678, None, 3]}, {"x": 3}):
        assert not alike({"x": [0.12345678, None, 3]}, other)


@pytest.mark.parametrize("fault", sorted({*faults.ANY, *faults.BY_SUFFIX[".json"]}, key=lambda f: f.__name__))
def test_a_fault_changes_the_folder_and_is_the_same_for_the_same_seed(tmp_path, fault):
    results = []
    for attempt in ("first", "second"):
        case, outside = tmp_path / attempt / "case", tmp_path / attempt / "outside"
        case.mkdir(parents=True)
        outside.mkdir()
        (outside / "sentinel.txt").write_text("theirs")
        (case / "a.json").write_text('{"b": [1, 2, {"c": 3.5}], "d": "text of some length", "e": 7}')
        (case / "other.txt").write_text("other")
        before = snapshot([case])
        done = fault(case / "a.json", Random(3), outside)
        assert snapshot([case]) != before
        results.append(done.replace(str(outside), ""))
    assert results[0] == results[1]


@pytest.mark.skipif(sys.platform != "linux", reason="cases are forked, and limited as Linux can")
def test_nothing_is_wrong_without_a_word_after_forty_faults():
    words = [sys.executable, "tests/fuzz", "--seed", "0", "--cases", "40"]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
