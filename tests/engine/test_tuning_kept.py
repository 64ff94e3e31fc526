"""What tuning measured is kept: in the user's cache, where it is damaged or foreign measured again."""

from __future__ import annotations

import json

import pytest
from planned import planned_of

from bench.engine.compute import CLASSIFIER
from bench.engine.tuning import cache as tuning_cache
from bench.engine.tuning import search
from bench.engine.tuning.trials import Trials
from bench.sweep.settle import (
    settle_options,
)

pytest_plugins = ("tuned",)

MADE = {"precision": "bf16", "channels_last": False, "compile": "no", "rows": 32, "beside": "fp32", "gain": 2.0}
MADE |= {"row_s": 0.001, "distances": {"edm": 0.002}}


def test_an_interrupted_search_keeps_what_it_measured_and_says_what_it_tries(tiny_preset, cache, scripted, monkeypatch):
    scripted(lambda name, way: 1.0)

    def interrupted(self, name, ways, rows):
        asked.append(name)
        if name == CLASSIFIER and len(asked) < 5:
            raise KeyboardInterrupt
        return [1.0] * len(ways)

    asked, said = [], []
    monkeypatch.setattr(Trials, "seconds", interrupted)
    path = tiny_preset(precision="auto", channels_last="auto")
    with pytest.raises(KeyboardInterrupt):
        settle_options(planned_of(path), "cpu", notify=said.append)
    assert said == [
        "tuning: network 'edm' in bf16, bf16 channels_last, fp32, fp32 channels_last",
        "tuning: the classifier in fp32, fp32 channels_last",
    ]
    before = asked.count("edm")
    asked += [""] * 5
    settle_options(planned_of(path), "cpu", notify=said.append)
    assert asked.count("edm") == before and "to measure again, delete" in said[2]


def test_a_choice_is_measured_once_and_again_when_a_network_changes(tiny_preset, cache, monkeypatch, tiny_zoo):
    path = tiny_preset(precision="auto", batch="auto", purifiers=["onestep-edm"])
    monkeypatch.setattr(search, "choose_precision", lambda asked, _: "bf16" if asked == "auto" else asked)
    calls, seconds = [], Trials.seconds
    monkeypatch.setattr(Trials, "seconds", lambda *given: calls.append(1) or seconds(*given))
    first = settle_options(planned_of(path), "cpu")
    measured = len(calls)
    again = settle_options(planned_of(path), "cpu")
    assert len(calls) == measured > 0 and len(list(cache.iterdir())) == 1
    assert first.cells == again.cells and json.dumps(first.tuning) == json.dumps(again.tuning)
    assert isinstance(first.preset.batch, int)
    other = {"edm": str(tiny_zoo / "edm-ft.safetensors")}
    settle_options(
        planned_of(tiny_preset("other", precision="auto", batch="auto", networks=other, purifiers=["onestep-edm"])),
        "cpu",
    )
    assert len(calls) > measured


def test_a_speed_that_was_measured_beside_other_programs_is_measured_again_once_they_are_gone(cache, monkeypatch):
    facts = {"device": "d"}

    def recalled(before, after):
        made = {"date": "2026-01-01", "load": before, "cores": 2}
        tuning_cache.remember(facts, {"measured": made})
        monkeypatch.setattr(tuning_cache, "now", lambda: made | {"load": after})
        return tuning_cache.recall(facts) is not None

    assert recalled(0.5, 0.1) and recalled(0.9, 6.0)
    assert not recalled(3.0, 0.5) and not recalled(6.0, 3.0)
    assert recalled(3.0, 2.9)  # another measurement would be as doubtful


def test_a_damaged_or_foreign_measurement_is_made_again(cache):
    facts = {"device": "d", "n": 1}
    assert tuning_cache.recall(facts) is None
    tuning_cache.remember(facts, {"batch": 3})
    assert tuning_cache.recall(facts) == {"batch": 3} and tuning_cache.recall({**facts, "n": 2}) is None
    for text in ("", "[]", '{"facts": {}, "result": {}}', '{"result": 3}', "[" * 100_000):
        tuning_cache.place(facts).write_text(text)
        assert tuning_cache.recall(facts) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"rates": [[0, 5.0]]},
        {"rates": [[2**40, 5.0]]},
        {"rates": 3},
        {"measured": {"load": [1]}},
        {"ways": {"edm": [{"precision": "bf16"}]}},
        {"ways": {"edm": [MADE | {"gain": "x"}]}},
        {"ways": {"edm": [MADE | {"rows": -5}]}},
    ],
)
def test_a_measurement_of_wrong_types_is_made_again(cache, wrong):
    result = {
        "measured": {"date": "2026-11-29", "load": 0.1, "cores": 2},
        "rates": [[32, 9.5]],
        "ways": {"edm": [MADE]},
    }
    tuning_cache.remember({"n": 1}, result)
    assert tuning_cache.recall({"n": 1}) == result
    tuning_cache.remember({"n": 1}, {**result, **wrong})
    assert tuning_cache.recall({"n": 1}) is None


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(tuning_cache._FOLDER, str(tmp_path / "file" / "speed"))
    tuning_cache.remember({"n": 1}, {"batch": 3})
    assert tuning_cache.recall({"n": 1}) is None
