"""The needs of a preset, its memory, draws and time, before anything is loaded or downloaded."""

from __future__ import annotations

import pytest

from bench.certify import rules
from bench.certify.base import Tally
from bench.doctor import duration as timing
from bench.doctor import requirements as readiness
from bench.doctor.dry_run import _BYTES_PER_BLOCK, _most_blocks, describe_dry_run
from bench.doctor.duration import duration, span
from bench.doctor.requirements import Need, describe, fits, needs
from bench.sweep import preset
from bench.sweep.draws import draw_bounds, sweep_bounds
from bench.sweep.resolved import resolve


@pytest.fixture(autouse=True)
def nothing_is_here(monkeypatch, tmp_path):
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    monkeypatch.setenv("PURIFYBENCH_CLASSIFIERS", str(tmp_path / "classifiers"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("PURIFYBENCH_DATA", raising=False)
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("bench.data.split.user_cache_path", lambda *_, **__: tmp_path / "cache")
    monkeypatch.setattr("bench.data.cached", lambda dataset: [])


def asked(name, **overrides):
    chosen = preset.load_preset(str(name), overrides)
    return chosen, resolve(chosen)


@pytest.mark.parametrize("name", ["cifar10-paper", "cifar10-dds", "cifar10-diffsmooth", "imagenet64-paper"])
def test_a_published_preset_says_what_is_missing_and_downloads_nothing(name, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("something was fetched")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    chosen, resolved = asked(name)
    found = list(needs(chosen, resolved))
    assert not any(need.present for need in found)
    said = describe(found)
    for need in found:
        assert need.name in said
    assert "would be downloaded: " in said and "together about" in said
    assert duration(chosen, resolved, found, ["cpu"])  # without loading anything


def test_the_papers_fine_tuned_network_would_be_downloaded_like_the_others():
    """All five purifiers of the paper are there from the name of the preset, as far as a connection goes."""
    chosen, resolved = asked("cifar10-paper")
    found = {need.name: need for need in needs(chosen, resolved)}
    assert {purifier.name for purifier in resolved.purifiers} >= {"consistency", "consistency-ft"}
    assert found["network cm-ft"] == Need("network cm-ft", False, 902_000_000)
    assert "by hand" not in describe(list(found.values()))


def test_what_has_no_address_is_to_be_put_in_its_place_by_hand(tmp_path):
    said = describe(list(needs(*asked("cifar10-diffsmooth"))))
    assert (
        f"not ready, by hand: classifier resnet-cifar {tmp_path / 'classifiers' / 'cohen2019--resnet110-noise_0.25'}"
        in said
    )


def test_the_sizes_of_downloads_are_added_up():
    found = [
        Need("data a", True, 5),
        Need("network b", False, 2_500_000_000),
        Need("network c", False, 210_000_000),
        Need("network d", False, None),
        Need("network e", False, None, "at /place"),
    ]
    assert describe(found) == (
        "not ready, by hand: network e at /place; here: data a; would be downloaded: network b (2.5 GB), "
        "network c (210 MB), network d (size unknown); together about 2.7 GB"
    )
    assert describe(found[:1]) == "ready"


def test_local_data_are_looked_for_where_a_run_would_look(tiny_preset, tmp_path, monkeypatch):
    chosen, resolved = asked(tiny_preset(dataset="cifar10", data=str(tmp_path / "absent")))
    need = next(needs(chosen, resolved))
    assert not need.present and str(tmp_path / "absent") in need.by_hand
    (tmp_path / "cifar10").mkdir()
    monkeypatch.setenv("PURIFYBENCH_DATA", str(tmp_path))
    chosen, resolved = asked(tiny_preset(dataset="cifar10"))
    need = next(needs(chosen, resolved))
    assert not need.present and "test.parquet is missing" in need.by_hand
    (tmp_path / "cifar10" / "test.parquet").touch()
    assert next(needs(chosen, resolved)).present


def test_a_data_set_that_the_hubs_library_keeps_is_present_and_one_without_the_library_asks_for_it(
    monkeypatch, tmp_path
):
    chosen, _ = asked("cifar10-paper")
    assert readiness._data_need(chosen) == Need("data cifar10", False, 144_000_000)
    monkeypatch.setattr("bench.data.installed", lambda: False)
    assert "purifybench[hub]" in readiness._data_need(chosen).by_hand
    kept = tmp_path / "cifar10-test.arrow"
    kept.write_bytes(bytes(7))
    monkeypatch.setattr("bench.data.cached", lambda dataset: [kept])
    assert readiness._data_need(chosen) == Need("data cifar10", True, 7)


def test_weights_fit_or_the_number_of_workers_that_do_is_named(monkeypatch):
    found = [Need("data a", True, 10**15), Need("network b", False, 2_200_000_000)]
    monkeypatch.setattr(readiness, "machine_memory", lambda: 10**10)
    assert fits(found, ["cpu"] * 3).startswith("3 workers of about 3.0 GB fit into the 10.0 GB of memory")
    assert "4 workers of about 3.0 GB do not fit" in fits(found, ["cpu"] * 4)
    assert fits(found, ["cpu"] * 4).endswith("give --workers 3")
    monkeypatch.setattr(readiness, "machine_memory", lambda: 10**9)
    assert fits(found, ["cpu"]).endswith("it needs a larger device")


def test_memory_is_the_machines_or_less():
    assert 10**8 < readiness.machine_memory() < 10**14


@pytest.fixture
def rate(monkeypatch):
    """Layers of this machine at a known rate, and what networks reach of it."""
    monkeypatch.setattr(timing, "_rate", lambda precision, device, channels: 2e12)
    monkeypatch.setattr(timing, "_SHARE", 0.5)
    return 1e12


def test_the_draws_of_the_published_protocols_at_the_rate_of_this_machine(rate):
    """500 images, N0 + N, 3 sigmas; 1,001 million draws of a DDPM and a ViT for a sigma of CIFAR-10's test set."""
    assert sweep_bounds(asked("cifar10-paper")[0]) == (3 * 500 * 10_100,) * 2
    chosen, resolved = asked("cifar10-dds", sigmas="0.5")
    seconds = 1_001_000_000 * (16.8 + 35.1) * 1e9 / rate
    said = duration(chosen, resolved, [Need("x", False)], ["cpu"])
    assert said == (
        f"1,001,000,000 draws, about {span(seconds)} (estimated: operations of the networks at the rate of such "
        "layers here, 1 workers)"
    )
    assert f"about {span(seconds / 2)} " in duration(chosen, resolved, [Need("x", False)], ["cpu", "cpu"])
    chosen, resolved = asked("cifar10-dds", networks={"ddpm": "google/ddpm-cifar10-32"})
    assert "time unknown" in duration(chosen, resolved, [Need("x", False)], ["cpu"])


def test_every_evaluation_of_a_published_grid_counts(rate):
    chosen, resolved = asked("cifar10-paper", purifiers="pf-ode:conditioning=karras18")
    seconds = (sum((13, 15, 17)) * 42.4 + 3 * 35.1) * 1e9 / rate * 500 * 10_100
    assert span(seconds) in duration(chosen, resolved, [Need("x", False)], ["cpu"])


def test_a_preset_whose_parts_are_here_is_measured(tiny_preset):
    chosen, resolved = asked(tiny_preset(images=5, n0=10, n=90, sigmas=[0.25, 0.5]))
    found = list(needs(chosen, resolved))
    assert describe(found) == "ready" and {need.name for need in found} == {
        "data mnist5k",
        "classifier cnn",
        "network edm",
    }
    said = duration(chosen, resolved, found, ["cpu", "cpu"])
    assert said.startswith("2,000 draws, about ")
    assert "(measured: one eager call of each network here, 2 workers)" in said
    (seconds, _), (alone, _) = (
        timing.seconds_per_draw(*asked(tiny_preset(purifiers=purifiers)), found, ["cpu"])
        for purifiers in (["none", "onestep-edm"], ["none"])
    )
    assert 0 < alone < seconds < 1  # none is only the classifier


def test_large_or_unwanted_calls_are_not_made_and_unknown_networks_stay_unknown(tiny_preset, monkeypatch):
    chosen, resolved = asked(tiny_preset())
    for name in ("_network_s", "_classifier_s"):
        monkeypatch.setattr(timing, name, lambda *_: pytest.fail("it was called"))
    large = [Need("network edm", True, 10**9), Need("classifier cnn", True, 10**9)]
    assert "time unknown" in duration(chosen, resolved, large, ["cpu"])
    assert "time unknown" in duration(chosen, resolved, list(needs(chosen, resolved)), ["cpu"], False)


def test_a_rule_that_stops_early_bounds_the_time(tiny_preset):
    chosen, resolved = asked(tiny_preset(certifier="tight", n=None, n_max=5000, images=2, n0=10))
    assert sweep_bounds(chosen)[1] == 2 * 5010 * len(chosen.sigmas)
    found = list(needs(chosen, resolved))
    assert "at most" in duration(chosen, resolved, found, ["cpu"])


@pytest.mark.parametrize(("seconds", "said"), [(3, "3 s"), (130, "2 min"), (7300, "2 h"), (200_000, "2 days")])
def test_durations_are_said_as_a_person_says_them(seconds, said):
    assert span(seconds) == said


@pytest.mark.parametrize("certifier", rules.SEQUENTIAL)
@pytest.mark.parametrize("label_aware", [False, True])
def test_the_fewest_and_most_draws_are_those_of_images_that_stop_first_and_last(tiny_preset, certifier, label_aware):
    chosen, _ = asked(tiny_preset(certifier=certifier, n=None, n_max=2000, n0=10, radii=[0.0], label_aware=label_aware))
    rule = rules.of_sweep(chosen.model_dump(), 0.5)
    fewest, most = draw_bounds(chosen, 0.5)
    drawn = {}
    for share in (0.0, 0.5, 0.6, 1.0):  # of the votes for the selected class
        tally, blocks = Tally({}, {}, 0, 0 if share else 1), 0
        while requests := rule.missing(tally):
            for request in requests:
                blocks += 1
                hits = request.draws if request.stage == "select" else round(share * request.draws)
                getattr(tally, request.stage)[request.first] = (hits, request.draws - hits)
        drawn[share] = sum(map(sum, (*tally.select.values(), *tally.estimate.values())))
        assert blocks <= _most_blocks(chosen, 0.5)
    assert fewest <= min(drawn.values()) <= max(drawn.values()) <= most == 2010
    assert fewest == 10 if label_aware else fewest > 10
    if label_aware:
        assert drawn[0.0] == fewest


def test_a_dry_run_gives_cells_draws_bytes_and_time(tiny_preset, tmp_path):
    chosen, _ = asked(tiny_preset(images=5, n0=10, n=90, block=20, sigmas=[0.25, 0.5]))
    lines = describe_dry_run(chosen, tmp_path / "new" / "run")
    assert lines[0] == "4 cells: 2 purifiers at 2 noise levels, 5 images each"
    assert lines[1] == "draws: 2,000"
    assert _most_blocks(chosen, 0.5) == 1 + 5
    assert _BYTES_PER_BLOCK * 2 * 5 * 12 == 30_000 and "about 0 MB" in lines[2] and str(tmp_path) in lines[2]
    assert (
        lines[3] == "needs: ready" and "(measured: one eager call of each network here" in lines[4] and len(lines) == 5
    )
    (tmp_path / "run.sqlite").touch()
    assert "not counted again" in describe_dry_run(chosen, tmp_path)[-1]


def test_a_dry_run_of_networks_that_are_not_here_downloads_nothing_and_gives_bounds():
    lines = describe_dry_run(asked("cifar10-paper", certifier="tight")[0], readiness.Path("nowhere"))
    assert " to " in lines[1] and "(the rule tight stops early)" in lines[1]
    assert "at most about" in lines[2] and "would be downloaded" in lines[3] and "(estimated: operations" in lines[4]
