"""`auto`: the fastest way that keeps purified images as they are, measured once, kept, recorded."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import pytest
import torch

from bench.engine import autotune, tuning_cache
from bench.engine.autotune import _TOLERANCE
from bench.engine.loader import LoadError
from bench.engine.trials import ComputeConfig, Trials, _knee_of, fastest
from bench.engine.versions import DEFAULT_ROWS
from bench.sweep import preset
from bench.sweep.plan import make_plan, manifest
from bench.sweep.settle import _loader_of, _request_of, settle_options

PLAIN, OTHER, THIRD = ComputeConfig(), ComputeConfig(precision="bf16"), ComputeConfig(channels_last=True)


@pytest.mark.parametrize(
    ("seconds", "chosen"), [((1.0, 0.95), PLAIN), ((1.0, 0.5), OTHER), ((1.0, 1.5), PLAIN), ((1.0, 0.5, 0.4), THIRD)]
)
def test_another_way_is_chosen_only_where_it_is_clearly_faster(seconds, chosen):
    ways = [PLAIN, OTHER, THIRD][: len(seconds)]
    assert fastest(ways, lambda _: seconds, margin=1.1) == chosen


def test_the_knee_is_the_smallest_batch_of_nearly_the_highest_rate():
    assert _knee_of([(10, 40.0), (25, 80.0), (50, 96.0), (100, 99.0), (250, 100.0)]) == 50
    assert _knee_of([(10, 5.0)]) == 10


@pytest.mark.parametrize("fits", [25, 5])
def test_sizes_that_do_not_fit_into_memory_are_not_tried_further(tiny_preset, monkeypatch, fits):
    """The failure is the allocator's own, which has no class on a CPU."""
    trials = _request_of(planned_of(tiny_preset())).trials(_loader_of(planned_of(tiny_preset()), "cpu"))
    monkeypatch.setattr(Trials, "classify", lambda self, how, x: torch.empty(1 if len(x) <= fits else 1 << 50))
    if fits < 10:
        with pytest.raises(LoadError, match="a batch of 10 does not fit into memory"):
            trials.knee(ComputeConfig())
    else:
        knee, rates = trials.knee(ComputeConfig())
        assert [size for size, _ in rates] == [10, 25] and knee in (10, 25)


def test_another_failure_at_some_size_is_not_taken_for_the_end_of_memory(tiny_preset, monkeypatch):
    trials = _request_of(planned_of(tiny_preset())).trials(_loader_of(planned_of(tiny_preset()), "cpu"))
    monkeypatch.setattr(Trials, "classify", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trials.knee(ComputeConfig())


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv(tuning_cache._FOLDER, str(tmp_path / "speed"))
    return tmp_path / "speed"


@pytest.fixture
def scripted(monkeypatch):
    """Speeds and distances by precision, and bf16 as a precision that the device has instructions for."""

    def script(seconds, distances):
        monkeypatch.setattr(autotune, "choose_precision", lambda asked, _: "bf16" if asked == "auto" else asked)
        monkeypatch.setattr(Trials, "seconds", lambda self, ways, *_, **__: [seconds[w.precision] for w in ways])
        monkeypatch.setattr(Trials, "distance", lambda self, way: distances[way.precision])

    return script


def planned_of(path, **fields):
    return make_plan(preset.load_preset(str(path), fields), "cpu")


@pytest.mark.parametrize(
    ("seconds", "distances", "chosen"),
    [
        ({"fp32": 2.0, "bf16": 1.0}, {"fp32": 0.0, "bf16": _TOLERANCE / 2}, "bf16"),
        ({"fp32": 2.0, "bf16": 1.0}, {"fp32": 0.0, "bf16": _TOLERANCE * 1.01}, "fp32"),
        ({"fp32": 2.0, "bf16": 1.0}, {"fp32": 0.0, "bf16": math.inf}, "fp32"),
        ({"fp32": 1.0, "bf16": 3.0}, {"fp32": 0.0, "bf16": 0.0}, "fp32"),
    ],
)
def test_the_fastest_precision_among_faithful_ones_is_chosen(tiny_preset, cache, scripted, seconds, distances, chosen):
    scripted(seconds, distances)
    settled = settle_options(planned_of(tiny_preset(precision="auto")), "cpu")
    assert {cell.precision for cell in settled.cells} == {chosen} == {settled.preset.precision}
    assert settled.preset.batch == 500
    told = manifest(settled, ["cpu"])["tuning"]
    assert told["chosen"]["precision"] == chosen and told["asked"]["precision"] == "auto"
    assert {d["precision"]: d["distance"] for d in told["distances"]} == distances


def test_a_compiled_network_on_a_cpu_has_its_channels_innermost_if_left_open(tiny_preset, cache, monkeypatch):
    monkeypatch.setattr(Trials, "distance", lambda self, way: 0.0)
    monkeypatch.setattr(Trials, "seconds", lambda self, ways, *_, **__: [1.0 + (w.compile == "no") for w in ways])
    fields = {"precision": "fp32", "compile": "auto", "rows": 6}
    for asked, laid_out in (("auto", {"channels_last": True}), (False, {}), (True, {"channels_last": True})):
        settled = settle_options(planned_of(tiny_preset(str(asked), **fields, channels_last=asked)), "cpu")
        assert settled.cells[0].compute == laid_out | {"compile": "default", "rows": 6}


def test_the_precision_of_a_compiled_network_is_not_chosen_by_eager_speed(tiny_preset, cache, monkeypatch):
    """Where eager bf16 is slow, as with the channels innermost on a CPU, compiled bf16 need not be."""
    monkeypatch.setattr(autotune, "choose_precision", lambda asked, _: "bf16" if asked == "auto" else asked)
    monkeypatch.setattr(Trials, "distance", lambda self, way: 0.0)
    taken = {("fp32", "no"): 2.0, ("bf16", "no"): 4.0, ("fp32", "default"): 1.8, ("bf16", "default"): 1.0}
    monkeypatch.setattr(Trials, "seconds", lambda self, ways, *_, **__: [taken[w.precision, w.compile] for w in ways])
    for compile_, precision in (("no", "fp32"), ("auto", "bf16"), ("default", "bf16")):
        settled = settle_options(planned_of(tiny_preset(compile_, precision="auto", compile=compile_, rows=6)), "cpu")
        assert settled.cells[0].precision == precision


def test_without_a_compiler_auto_computes_eagerly(tiny_preset, cache, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)  # it finds out at the first call
    settled = settle_options(planned_of(tiny_preset(precision="fp32", compile="auto", rows=6)), "cpu")
    assert settled.cells[0].compute == {"rows": 6}


def test_a_choice_is_measured_once_and_again_when_a_network_changes(tiny_preset, cache, monkeypatch, tiny_zoo):
    path = tiny_preset(precision="auto", batch="auto", purifiers=["onestep-edm"])
    monkeypatch.setattr(autotune, "choose_precision", lambda asked, _: "bf16" if asked == "auto" else asked)
    calls, search = [], autotune._search
    monkeypatch.setattr(autotune, "_search", lambda *given: calls.append(1) or search(*given))
    first, again = (settle_options(planned_of(path), "cpu") for _ in range(2))
    assert len(calls) == 1 and len(list(cache.iterdir())) == 1
    assert first.cells == again.cells and json.dumps(first.tuning) == json.dumps(again.tuning)
    assert isinstance(first.preset.batch, int)
    other = {"edm": str(tiny_zoo / "edm-ft.safetensors")}
    settle_options(
        planned_of(tiny_preset("other", precision="auto", batch="auto", networks=other, purifiers=["onestep-edm"])),
        "cpu",
    )
    assert len(calls) == 2


def test_where_nothing_is_left_open_nobody_is_asked_and_nothing_is_measured(tiny_preset, cache):
    planned = planned_of(tiny_preset(precision="bf16", compile="default", rows=6, batch=12, channels_last=True))
    settled = settle_options(planned, "cpu", lambda _: pytest.fail("it was asked"))
    assert [cell.compute for cell in settled.cells] == [{"channels_last": True, "compile": "default", "rows": 6}] * 2
    assert settled.preset.batch == 12 and "tuning" not in manifest(settled, ["cpu"])
    plain = settle_options(planned_of(tiny_preset(rows=None)), "cpu")
    assert [cell.compute for cell in plain.cells] == [{"rows": DEFAULT_ROWS["cpu"]}] * 2
    assert not cache.exists()


def test_the_distance_is_that_of_purified_images_in_pixel_units(tiny_preset):
    planned = planned_of(tiny_preset(purifiers=["onestep-edm"], sigmas=[0.5]))
    trials = _request_of(planned).trials(_loader_of(planned, "cpu"))
    assert trials.distance(ComputeConfig()) == 0.0
    with torch.inference_mode():
        x = trials.noisy(0.5, 8)
        denoiser = trials.loader.denoiser("edm", trials.cell)
        exact = ((denoiser(2 * x - 1, 1.0) + 1) / 2).clamp(0, 1)
        denoiser = trials.loader.denoiser("edm", ComputeConfig(precision="bf16").apply(trials.cell))
        rough = ((denoiser(2 * x - 1, 1.0) + 1) / 2).clamp(0, 1)
    expected = float(((rough - exact) ** 2).mean() ** 0.5)
    assert 0 < expected == pytest.approx(trials.distance(ComputeConfig(precision="bf16")))


def test_the_classifiers_precision_is_settled_too(tiny_preset, tiny_zoo, cache, monkeypatch):
    classifier = {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors"), "precision": "auto"}
    monkeypatch.setattr(
        Trials, "seconds", lambda self, ways, *_, **__: [1.0 if w.classifier == "bf16" else 2.0 for w in ways]
    )
    for distance, chosen in ((0.01, "bf16"), (0.5, None)):
        monkeypatch.setattr(Trials, "logit_distance", lambda self, way, exact, far=distance: far)
        settled = settle_options(planned_of(tiny_preset(f"far-{distance}", classifier=classifier, alpha=0.001)), "cpu")
        assert settled.cells[0].classifier_parameters.get("precision") == chosen
        for file in cache.iterdir():
            file.unlink()


def test_a_damaged_or_foreign_measurement_is_made_again(cache):
    facts = {"device": "d", "n": 1}
    assert tuning_cache.recall(facts) is None
    tuning_cache.remember(facts, {"batch": 3})
    assert tuning_cache.recall(facts) == {"batch": 3} and tuning_cache.recall({**facts, "n": 2}) is None
    for text in ("", "[]", '{"facts": {}, "result": {}}', '{"result": 3}', "[" * 100_000):
        tuning_cache._place(facts).write_text(text)
        assert tuning_cache.recall(facts) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"chosen": []},
        {"batch": "x"},
        {"batch": -5},
        {"batch": 2**40},
        {"chosen": {"rows": "a"}},
        {"chosen": {"more": 1}},
    ],
)
def test_a_measurement_of_wrong_types_is_made_again(cache, wrong):
    result = {"chosen": asdict(PLAIN), "batch": 500, "tolerance": 0.01}
    tuning_cache.remember({"n": 1}, result)
    assert autotune.recalled({"n": 1}) == result
    if isinstance(wrong.get("chosen"), dict):
        wrong = {"chosen": {**asdict(PLAIN), **wrong["chosen"]}}
    tuning_cache.remember({"n": 1}, {**result, **wrong})
    assert autotune.recalled({"n": 1}) is None


def test_a_cache_that_cannot_be_written_stops_nothing(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(tuning_cache._FOLDER, str(tmp_path / "file" / "speed"))
    tuning_cache.remember({"n": 1}, {"batch": 3})
    assert tuning_cache.recall({"n": 1}) is None
