"""How fast the engine is, beside a plain Cohen loop, beside the networks alone and the device's matrix products.

`nox -s perf` runs these; the suite does not time them. All contenders of a row take turns in one run, each with all of
the machine; the least disturbed round of each counts. docs/speed.md says what was reached.
"""

from __future__ import annotations

import timeit

import pytest

from bench.engine.meter import Stopwatch
from bench.gpu.race import Race, full_size

QUICK = ["onestep-edm", "pf-ode:steps=3"]
MORE = ["none", "onestep-ddpm", "consistency", "consistency-ft", "sde:steps=5"]
SECONDS = {True: 8.0, False: 120.0}  # of a row's rounds, all contenders together
ROUNDS = {True: 5, False: 9}


@pytest.fixture(scope="session")
def embedded(quick):
    options = {"precision": "auto", "channels_last": "auto", "compile": "default", "rows": 100, "batch": 200}
    options["classifier"] = "bf16"
    if not quick:
        options |= {"compile": "auto", "rows": "auto", "batch": "auto", "classifier": "auto"}
    purifiers = ",".join(QUICK if quick else QUICK + MORE)
    race = Race("embedded", purifiers, options, draws=100, images=60, looped=4 if quick else 10)
    yield race
    race.close()


@pytest.fixture(scope="session")
def full(quick, tmp_path_factory):
    preset = str(full_size(tmp_path_factory.mktemp("full-size")))
    options = {"precision": "auto", "classifier": "auto", "batch": 10}
    if not quick:
        options |= {"channels_last": "auto", "compile": "auto", "batch": "auto"}
    few = {"draws": 4, "images": 4, "looped": 1}
    race = Race(preset, "onestep-edm", options, **(few if quick else {"draws": 100, "looped": 1}))
    yield race
    race.close()


def measure(benchmark, record, pair, race, label, quick):
    """Race, add the row to perf.json, and print it."""
    slow = ["cohen_loop_per_core"] if quick and pair != "embedded" else []  # minutes of a large network
    rates, rounds = race.rates(label, SECONDS[quick], ROUNDS[quick], slow)
    row = {**race.row(label, rates), "rounds": rounds}
    benchmark.extra_info.update({name: value for name, value in row.items() if name != "profile"})
    record["pairs"].setdefault(pair, {})[label] = row
    benchmark.pedantic(race.contenders(label)["engine"], rounds=1)
    print(f"\n{pair} {label} ({row['computes']}): {row['matmul_share']:.0%} of the matmul peak")
    for name, rate in rates.items():
        ratio = "" if name == "engine" else f"   engine/{name} {rates['engine'] / rate:.2f}"
        print(f"  {name:20} {rate:9,.1f}/s{ratio}")
    assert all(rate > 0 for rate in rates.values())


@pytest.mark.parametrize("purifier", QUICK + MORE)
def test_samples_per_second_of_the_embedded_networks(benchmark, perf_record, embedded, purifier, quick):
    if quick and purifier in MORE:
        pytest.skip("not in --quick")
    label = list(embedded.cells)[(QUICK + MORE).index(purifier)]
    measure(benchmark, perf_record, "embedded", embedded, label, quick)


def test_samples_per_second_of_full_size_networks(benchmark, perf_record, full, quick):
    measure(benchmark, perf_record, "full-size", full, "onestep-edm", quick)


def test_share_of_a_batch_that_timing_it_takes(benchmark, perf_record, embedded):
    """Three stages are timed in every batch; without synchronising, so this is all that measuring costs."""
    watch, label = Stopwatch(embedded.here.device), next(iter(embedded.cells))
    if label not in perf_record["pairs"].get("embedded", {}):
        pytest.skip("the engine's rate was not measured in this run")

    def timed():
        for name in ("noise", "purify", "classify"):
            with watch.stage(name):
                pass
        watch.seconds()
        watch._stages.clear()

    taken = min(timeit.repeat(timed, number=100, repeat=5)) / 100
    batch = embedded.batch / perf_record["pairs"]["embedded"][label]["engine"] * len(embedded.devices)
    perf_record["timing_share"] = taken / batch
    benchmark.pedantic(timed, rounds=5)
    print(f"\ntiming takes {1e6 * taken:.1f} us of a batch of {1e3 * batch:.1f} ms: {taken / batch:.4%}")
