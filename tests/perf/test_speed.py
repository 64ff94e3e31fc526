"""How fast the engine is, beside a plain Cohen loop, beside the networks alone and the device's matrix products.

`nox -s perf` runs these; the suite does not time them. All contenders of a row take turns in one run, each with all of
the machine; the least disturbed round of each counts. docs/speed.md says what was reached.
"""

from __future__ import annotations

import time
import timeit

import pytest
from contenders import Race, full_size, named

from bench.engine.meter import Stopwatch

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
    contenders = race.contenders(label)
    if quick and pair != "embedded":
        del contenders["cohen_loop_per_core"]  # minutes of a large network
    best = dict.fromkeys(contenders, float("inf"))
    deadline, rounds = 0.0, 0
    while rounds <= ROUNDS[quick] and (rounds < 2 or time.monotonic() < deadline):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            if rounds:  # the first one loads, compiles and warms up
                best[name] = min(best[name], time.perf_counter() - started)
        deadline = deadline or time.monotonic() + SECONDS[quick]
        rounds += 1
    rates = {name: race.samples_of(name) / seconds for name, seconds in best.items()}
    share = race.flops(label) * rates["engine"] / race.matmul_peak(label)
    row = {
        **rates,
        "matmul_share": share,
        **{f"engine_to_{name}": rates["engine"] / rate for name, rate in rates.items() if name != "engine"},
        "computes": named(race.cells[label][0]),
        "draws_per_batch_of_the_loop": race.draws,
        "rounds": rounds - 1,
    }
    benchmark.extra_info.update(row)
    record["pairs"].setdefault(pair, {})[label] = {**row, "profile": race.profile(label)}
    benchmark.pedantic(contenders["engine"], rounds=1)
    print(f"\n{pair} {label} ({row['computes']}): {share:.0%} of the matmul peak")
    for name, rate in rates.items():
        print(
            f"  {name:20} {rate:9,.1f}/s"
            + ("" if name == "engine" else f"   engine/{name} {rates['engine'] / rate:.2f}")
        )
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
