"""Projections are arithmetic that a person can redo, from inputs that were measured."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.doctor.cost import Load, Measured, project, rate
from bench.doctor.cost_inputs import CostError, label, load_of, rates_by_nfe, rates_of_perf
from bench.doctor.cost_measured import measure
from bench.sweep.preset import load as load_preset
from purifiers.edm_stochastic import EDMStochastic
from purifiers.none import NoPurifier

LOAD = Load(
    rates={"fast": 1000.0, "slow": 100.0},
    sigmas=3,
    images=500,
    n0=100,
    n=900.0,
    block=100,
    batch=1000,
    devices=10,
    machines=2,
    parameters=10**9,
    pixels=10**6,
)
MEASURED = Measured(added=500.0, stored=200.0, sent=300.0, asked=1000.0, setup=30.0, overhead=0.0)


def test_a_projection_is_what_a_person_computes_by_hand():
    found = project(LOAD, MEASURED)
    assert found.draws == 2 * 3 * 500 * 1000 and found.blocks == 2 * 3 * 500 * 10 and found.batches == 3000
    assert found.seconds == {"fast": 3 * 500 * 1000 / 1000 / 10, "slow": 3 * 500 * 1000 / 100 / 10}
    assert found.hours == pytest.approx((150 + 1500 + 30 + 10) / 3600)
    assert found.peak == 10 * 1000 / 100 and found.mean == pytest.approx(30_000 / 1650)
    assert found.incoming == 100 * 300 and found.outgoing == 10 * 1000
    assert found.database == 30_000 * 200 and found.shipped == 2 * (10**9 + 10**6)
    assert found.kept_up and not project(replace(LOAD, devices=60), MEASURED).kept_up


@given(devices=st.integers(1, 1000), overhead=st.floats(0, 0.5), block=st.integers(1, 2000))
def test_more_devices_take_less_time_and_the_store_is_asked_for_more(devices, overhead, block):
    load, measured = replace(LOAD, devices=devices, block=block), replace(MEASURED, overhead=overhead)
    one, more = project(load, measured), project(replace(load, devices=devices + 1), measured)
    assert more.hours < one.hours and more.peak > one.peak >= one.mean
    assert more.draws == one.draws and one.batches == pytest.approx(one.draws / load.batch)
    assert sum(one.seconds.values()) * (1 - overhead) * devices == pytest.approx(3 * 500 * 1000 * (1 / 1000 + 1 / 100))


def test_rates_follow_from_network_evaluations():
    assert rate(0, 100, 400) == 400 and rate(3, 100, 400) == pytest.approx(1 / (0.03 + 0.0025))
    sampler = EDMStochastic(steps=3)
    rates = rates_by_nfe([NoPurifier(), sampler], [0.5], 100, 400)
    assert rates == {"none": 400, label(sampler): pytest.approx(1 / (5 / 100 + 1 / 400))}


def test_rates_are_read_from_what_the_speed_measurement_wrote(tmp_path):
    file = tmp_path / "perf.json"
    measured = {"none": {"engine": 900.0, "networks": 1000.0}, "edm-stochastic": {"engine": 7.0}}
    file.write_text(json.dumps({"pairs": {"small": measured, "large": {}}}))
    purifiers = [NoPurifier(), EDMStochastic(steps=3)]
    assert rates_of_perf(file, "small", purifiers) == {"none": 900.0, label(purifiers[1]): 7.0}
    with pytest.raises(CostError, match=r"--pair .* small, large"):
        rates_of_perf(file, None, purifiers)
    with pytest.raises(CostError, match="has no none for large"):
        rates_of_perf(file, "large", purifiers)
    file.write_text("{")
    with pytest.raises(CostError, match=r"perf\.json cannot be read"):
        rates_of_perf(file, "small", purifiers)


def test_a_rule_that_stops_early_needs_a_mean_and_own_images_have_no_known_size():
    preset = load_preset("embedded", {"certifier": "tight"})
    with pytest.raises(CostError, match="stops early: give by --draws"):
        load_of(preset, [], None, {}, 1, 1, None)
    own = preset.model_copy(update={"dataset": "folder"})
    with pytest.raises(CostError, match="images of folder"):
        load_of(own, [], None, {}, 1, 1, 10.0)


def test_the_driver_is_measured_by_driving_a_sweep(tmp_path):
    few, many = (measure(classes, 10, 200, 10, 100, 500, tmp_path) for classes in (10, 1000))
    assert few.added > 100 and many.added > 10
    assert 100 < few.stored < many.stored < 500 and many.sent > few.sent > 50
    assert not list(tmp_path.iterdir())


def test_the_command_projects_a_preset(cli, monkeypatch):
    arguments = "--devices", 8, "--evaluations", 100, "--classifications", 400, "--purifiers", "none,onestep-edm"
    said = cli("cost", "embedded", *arguments)
    assert said.exit_code == 0, said.output
    assert "500 images on 8 devices" in said.stdout and "scheduler and store" in said.stdout
    found = json.loads(cli("cost", "embedded", *arguments, "--json").stdout)
    assert found["load"]["rates"] == {"none": 400.0, "onestep-edm": 80.0}
    assert found["draws"] == 2 * 3 * 500 * 50 and found["load"]["machines"] == 1
    refused = cli("cost", "embedded", "--devices", 8)
    assert refused.exit_code == 2 and "--evaluations and --classifications" in refused.stderr
