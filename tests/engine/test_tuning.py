"""`auto`: the fastest way that keeps purified images as they are, measured once, kept, recorded."""

from __future__ import annotations

import math

import pytest
import torch
from planned import planned_of

from bench.engine.compute import CLASSIFIER, ComputeConfig
from bench.engine.loader import Loader
from bench.engine.tuning import search
from bench.engine.tuning.search import _TOLERANCE
from bench.engine.tuning.trials import Trials
from bench.engine.versions import DEFAULT_ROWS
from bench.errors import InputError
from bench.store import read_run
from bench.sweep import preset
from bench.sweep.plan import manifest
from bench.sweep.settle import (
    _loader_of,
    _request_of,
    _settled,
    advice,
    device_of,
    settle_options,
    with_device_defaults,
)

pytest_plugins = ("tuned",)


@pytest.mark.parametrize(
    ("seconds", "distance", "chosen"),
    [
        ({"fp32": 2.0, "bf16": 1.0}, _TOLERANCE / 2, "bf16"),
        ({"fp32": 2.0, "bf16": 1.0}, _TOLERANCE * 1.01, "fp32"),
        ({"fp32": 2.0, "bf16": 1.0}, math.inf, "fp32"),
        ({"fp32": 1.0, "bf16": 3.0}, 0.0, "fp32"),
        ({"fp32": 0.95, "bf16": 1.0}, 0.0, "bf16"),  # timing noise does not replace the default
    ],
)
def test_the_fastest_precision_among_faithful_ones_is_chosen(tiny_preset, cache, scripted, seconds, distance, chosen):
    scripted(lambda name, way: seconds[way.precision], lambda name, way: distance)
    settled = settle_options(planned_of(tiny_preset(precision="auto")), "cpu")
    assert {cell.precision for cell in settled.cells} == {chosen} == {settled.preset.precision}
    assert settled.preset.batch == 500
    told = manifest(settled, ["cpu"])["tuning"]
    assert told["chosen"]["precision"] == chosen and told["asked"]["precision"] == "auto"
    (bf16,) = (way for way in told["ways"]["edm"] if way["precision"] == "bf16")
    assert bf16["distances"] == {"edm": distance}


def test_a_folder_keeps_its_own_choice_whatever_another_machine_would_choose(
    tiny_preset, cache, scripted, cli, tmp_path
):
    path, out = tiny_preset(precision="auto", batch="auto", images=2), tmp_path / "out"
    scripted(lambda name, way: {"fp32": 1.0, "bf16": 3.0}[way.precision])
    assert cli("run", path, "--out", out, "--no-plots").exit_code == 0
    before = read_run(out)
    assert {cell.precision for cell in before.cells.values()} == {"fp32"}
    for file in cache.iterdir():
        file.unlink()
    scripted(lambda name, way: {"fp32": 3.0, "bf16": 1.0}[way.precision])
    assert {cell.precision for cell in settle_options(planned_of(path), "cpu").cells} == {"bf16"}
    again = cli("run", path, "--out", out, "--no-plots")
    assert again.exit_code == 0 and "were counted with precision fp32" in " ".join(again.output.split())
    after = read_run(out)
    assert list(after.cells) == list(before.cells) and len(after.blocks) == len(before.blocks)
    assert after.manifest["tuning"] == before.manifest["tuning"]
    assert after.manifest["preset"]["batch"] == before.manifest["preset"]["batch"]
    for file in out.glob("run.sqlite*"):
        file.unlink()
    assert cli("run", path, "--out", out, "--no-plots").exit_code == 0  # exports, too, tell what was chosen
    named = cli("run", path, "--out", out, "--no-plots", "--precision", "bf16")
    assert named.exit_code == 0 and set(read_run(out).cells).isdisjoint(before.cells)


def test_another_kind_of_device_has_no_choice_to_keep(tiny_preset, cache, scripted):
    scripted(lambda name, way: {"fp32": 2.0, "bf16": 1.0}[way.precision])
    planned = planned_of(tiny_preset(precision="auto"))
    before = {"devices": ["cuda:0"], "preset": {"precision": "fp32"}}
    assert _settled(before, "cpu") == {} and _settled({}, "cpu") == {}
    kept = {"precision": "fp32", "classifier": "bf16", "compute": {}}
    assert (
        _settled({"devices": ["cpu"], "preset": {"precision": "fp32", "classifier": {"precision": "bf16"}}}, "cpu")
        == kept
    )
    assert {cell.precision for cell in settle_options(planned, "cpu", before=before).cells} == {"bf16"}


def test_a_folder_that_a_gpu_counted_is_continued_on_one_or_refused():
    def none(kind):
        raise ValueError(f"no {kind}")

    before = {"devices": ["cuda:1"]}
    assert device_of("auto", before, lambda kind: None) == "cuda"
    assert device_of("auto", {"devices": ["cpu"]}, lambda kind: None) == "cpu"
    assert device_of("auto", {}, none) == "auto" and device_of("cpu", before, none) == "cpu"
    with pytest.raises(InputError, match=r"counted on cuda, which is not here .*--device"):
        device_of("auto", before, none)


def test_a_compiled_network_on_a_cpu_has_its_channels_innermost_if_left_open(tiny_preset, cache, scripted):
    scripted(lambda name, way: 1.0 + (way.compile == "no"))
    fields = {"precision": "fp32", "compile": "auto", "rows": 6, "images": 500, "n": 10**6}
    for asked, laid_out in (("auto", {"channels_last": True}), (False, {}), (True, {"channels_last": True})):
        settled = settle_options(planned_of(tiny_preset(str(asked), **fields, channels_last=asked)), "cpu")
        assert settled.cells[1].compute == laid_out | {"compile": "default", "rows": 6}


def test_the_precision_of_a_compiled_network_is_not_chosen_by_eager_speed(tiny_preset, cache, scripted):
    """Where eager bf16 is slow, as with the channels innermost on a CPU, compiled bf16 need not be."""
    taken = {("fp32", "no"): 2.0, ("bf16", "no"): 4.0, ("fp32", "default"): 1.8, ("bf16", "default"): 1.0}
    scripted(lambda name, way: taken[way.precision, way.compile])
    for compile_, precision in (("no", "fp32"), ("auto", "bf16"), ("default", "bf16")):
        path = tiny_preset(compile_, precision="auto", compile=compile_, rows=6, n=10**6)
        settled = settle_options(planned_of(path), "cpu")
        assert settled.cells[1].precision == precision


def test_each_network_and_the_classifier_compute_in_their_own_way(tiny_preset, cache, scripted):
    """The GPU's case: compilation makes the UNet faster and the classifier slower."""
    scripted(lambda name, way: {"no": 2.0, "default": 4.0 if name == CLASSIFIER else 1.0}[way.compile])
    path = tiny_preset(precision="bf16", compile="auto", rows=6, images=500, n=10**6)
    settled = settle_options(planned_of(path), "cpu")
    none, onestep = settled.cells
    assert onestep.compute == {"rows": 6, "compile": "default", "classifier": {"compile": "no"}} == none.compute
    assert settled.preset.compute == {"classifier": {"compile": "no"}}
    assert manifest(settled, ["cpu"])["preset"]["compute"] == settled.preset.compute
    written = planned_of(
        tiny_preset(
            "written",
            precision="bf16",
            compile="default",
            rows=6,
            images=500,
            n=10**6,
            compute={"classifier": {"compile": "no"}},
        )
    )
    assert [cell.key for cell in settle_options(written, "cpu").cells] == [none.key, onestep.key]


def test_a_network_that_a_precision_changes_too_much_keeps_float32_alone(tiny_preset, cache, scripted):
    scripted(lambda name, way: {"fp32": 2.0, "bf16": 1.0}[way.precision], lambda name, way: float(name == "edm-ft"))
    path = tiny_preset(precision="auto", purifiers=["none", "onestep-edm", "onestep-ddpm", "onestep-edm-ft"])
    settled = settle_options(planned_of(path), "cpu")
    assert [cell.precision for cell in settled.cells] == ["bf16", "bf16", "bf16", "fp32"]
    assert all(cell.compute == {"rows": 8} for cell in settled.cells)  # a cell of one network records no exception
    assert settled.preset.compute == {"edm-ft": {"precision": "fp32"}}


def test_a_compilation_that_is_not_earned_back_is_neither_tried_nor_chosen(tiny_preset, cache, scripted, monkeypatch):
    scripted(lambda name, way: 1.0 if way.compile == "no" else 0.1)
    tried = []
    monkeypatch.setattr(Trials, "first_call", lambda self, name, way: tried.append(name) or 50.0)
    path = tiny_preset(compile="auto", precision="fp32", rows=6, images=1, n0=1, n=3)
    settled = settle_options(planned_of(path), "cpu")
    assert settled.cells[1].compute == {"rows": 6} and not tried
    assert "this sweep needs" in settled.tuning["skipped"][0]
    # A long sweep compiles on the same machine, and what it measured does not change the choice of the short one.
    settled = settle_options(planned_of(tiny_preset("long", compile="auto", precision="fp32", rows=6, n=10**6)), "cpu")
    assert settled.cells[1].compute == {"rows": 6, "compile": "default"} and "edm" in tried
    assert settle_options(planned_of(path), "cpu").cells[1].compute == {"rows": 6}


def test_the_time_for_tuning_ends_the_search_with_the_best_way_so_far(tiny_preset, cache, scripted, monkeypatch):
    scripted(lambda name, way: 1.0 if way.compile == "no" else 0.1)
    monkeypatch.setitem(search._BUDGET_S, "cpu", 0.0)
    settled = settle_options(planned_of(tiny_preset(compile="auto", precision="auto", rows=6, n=10**6)), "cpu")
    assert settled.cells[1].compute == {"rows": 6} and settled.cells[1].precision == "bf16"
    assert all("the time for tuning was over" in reason for reason in settled.tuning["skipped"])


def test_without_a_compiler_auto_computes_eagerly(tiny_preset, cache, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)  # it finds out at the first call
    settled = settle_options(
        planned_of(tiny_preset(precision="fp32", compile="auto", rows=6, n=10**7, block=1000)), "cpu"
    )
    assert settled.cells[0].compute == {"rows": 6}
    assert any("no C++ compiler" in reason for reason in settled.tuning["skipped"])


def test_comparing_two_ways_of_the_classifier_loads_each_once(tiny_preset, cache, monkeypatch):
    """A classifier that is loaded, or compiled, at every turn would be timed with its start-up."""
    loaded, read = [], Loader._read_classifier
    monkeypatch.setattr(Loader, "_read_classifier", lambda self, cell: loaded.append(1) or read(self, cell))
    planned = planned_of(tiny_preset(purifiers=["none"]))
    trials = _request_of(planned).trials(_loader_of(planned, "cpu"))
    trials.seconds(CLASSIFIER, [ComputeConfig(classifier="fp32"), ComputeConfig(classifier="bf16")], 4)
    assert len(loaded) == 2


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
    assert trials.distance("edm", ComputeConfig()) == 0.0
    with torch.inference_mode():
        x = trials.noisy(0.5, 8)
        denoiser = trials.loader.denoiser("edm", trials.cell)
        exact = ((denoiser(2 * x - 1, 1.0) + 1) / 2).clamp(0, 1)
        denoiser = trials.loader.denoiser("edm", ComputeConfig(precision="bf16").apply(trials.cell))
        rough = ((denoiser(2 * x - 1, 1.0) + 1) / 2).clamp(0, 1)
    expected = float(((rough - exact) ** 2).mean() ** 0.5)
    assert 0 < expected == pytest.approx(trials.distance("edm", ComputeConfig(precision="bf16")))


def test_the_classifiers_precision_is_settled_too(tiny_preset, tiny_zoo, cache, scripted):
    classifier = {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors"), "precision": "auto"}
    for distance, chosen in ((0.01, "bf16"), (0.5, None)):
        scripted(lambda name, way: 1.0 if way.classifier == "bf16" else 2.0, lambda name, way, far=distance: far)
        settled = settle_options(planned_of(tiny_preset(f"far-{distance}", classifier=classifier, alpha=0.001)), "cpu")
        assert settled.cells[0].classifier_parameters.get("precision") == chosen
        for file in cache.iterdir():
            file.unlink()


def test_a_gpu_measures_what_a_preset_leaves_open_and_published_protocols_stay_as_they_are():
    given = preset.load_preset("embedded", {"compile": "no"})
    assert with_device_defaults(given, "cpu") is given
    tuned = with_device_defaults(given, "cuda")
    assert (tuned.precision, tuned.channels_last, tuned.compile, tuned.batch) == ("auto", "auto", "no", "auto")
    assert tuned.classifier.parameters["precision"] == "auto"
    fair = with_device_defaults(preset.load_preset("cifar10-fair", {}), "cuda")
    assert (fair.precision, fair.compile, fair.classifier.parameters["precision"]) == ("auto", "default", "auto")
    published = [name for name in preset.names() if preset.load_preset(name, {}).protocol]
    assert published == ["cifar10-dds", "cifar10-diffsmooth", "cifar10-paper", "imagenet64-paper"]
    for name in published:
        given = preset.load_preset(name, {})
        assert with_device_defaults(given, "cuda") is given


def test_a_published_protocol_says_how_much_faster_auto_may_be(monkeypatch):
    from bench.engine.tuning import trials
    from bench.sweep import settle

    rates = {"fp32": 2.0, "bf16": 7.0}
    monkeypatch.setattr(trials, "product_rate", lambda precision, device, side: rates[precision])
    monkeypatch.setattr(settle, "choose_precision", lambda asked, device: "bf16")
    said = advice(preset.load_preset("cifar10-dds", {}), "cuda:0")
    assert "as Carlini et al. 2023 does" in said and "3.5 times faster in bf16" in said and "--precision auto" in said
    assert advice(preset.load_preset("cifar10-dds", {"precision": "auto"}), "cuda:0") is None
    assert advice(preset.load_preset("embedded", {}), "cuda:0") is None
    monkeypatch.setattr(settle, "choose_precision", lambda asked, device: "fp32")
    assert advice(preset.load_preset("cifar10-dds", {}), "cpu") is None
