"""How fast the embedded sweep is, beside a plain Cohen loop and beside the networks alone, in one run.

`nox -s perf` runs these; the suite does not time them. One thread each: on a CPU the sweep uses a process per core.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest
import torch

from bench import preset
from bench.engine import Engine, Task
from bench.executors.local import choose_precision, prepare_device
from bench.noise import PURIFIER, RowRng
from bench.plan import plan
from bench.types import Block

SIGMA, DRAWS, IMAGES, ROUNDS = 0.5, 100, 10, 5
PURIFIERS = ["none", "onestep-ddpm", "onestep-edm", "consistency", "consistency-ft", "pf-ode:steps=3"]


def cohen_loop(engine, cell, images):
    """What published code does: one image at a time, batches of 100, fresh noise, argmax to the host, fp32, eager."""
    loaded = engine._prepare(cell)
    for image in images:
        counts = np.zeros(10, dtype=int)
        batch = torch.from_numpy(image).repeat(DRAWS, 1, 1, 1)
        x = batch + torch.randn_like(batch) * SIGMA
        rows = torch.arange(DRAWS)
        purified = loaded.purifier.purify(x, SIGMA, loaded.networks, RowRng(0, PURIFIER, rows, rows))
        for label in loaded.classifier(purified).argmax(1).cpu().numpy():
            counts[label] += 1


def networks_alone(engine, cell, rows):
    """The ceiling: the purifier's and the classifier's networks on ready-made input, nothing else."""
    loaded = engine._prepare(cell)
    x = torch.rand(rows, 1, 28, 28)
    index = torch.arange(rows)
    loaded.classifier(loaded.purifier.purify(x, SIGMA, loaded.networks, RowRng(0, PURIFIER, index, index)))


@pytest.mark.parametrize("purifier", PURIFIERS)
@torch.inference_mode()
def test_samples_per_second(benchmark, purifier):
    device = prepare_device("cpu")
    engines, cells = {}, {}
    for precision in {"fp32", choose_precision("auto", "cpu")}:
        overrides = {"purifiers": purifier, "sigmas": str(SIGMA), "images": IMAGES, "precision": precision}
        planned = plan(preset.load("embedded", overrides), "cpu")
        clean = {i: planned.split.images[i] for i in planned.images}
        engines[precision], cells[precision] = Engine(clean, planned.weights, device), planned.cells[0]
    best = choose_precision("auto", "cpu")
    blocks = tuple(Block(cells[best].key, image, "estimate", 0, DRAWS) for image in clean)
    tasks = [Task(cells[best], blocks[:5]), Task(cells[best], blocks[5:])]
    samples = DRAWS * IMAGES

    def engine_runs():
        for task in tasks:
            engines[best].run(task)

    contenders = {
        "engine": engine_runs,
        "cohen_loop": lambda: cohen_loop(engines["fp32"], cells["fp32"], clean.values()),
        "networks": lambda: [networks_alone(engines[best], cells[best], samples // 2) for _ in range(2)],
    }
    seconds = {name: [] for name in contenders}
    for _ in range(ROUNDS + 1):  # in turn, so that a machine that slows down slows all of them; the first warms up
        for name, contender in contenders.items():
            started = time.perf_counter()
            contender()
            seconds[name].append(time.perf_counter() - started)
    rates = {name: samples / statistics.median(values[1:]) for name, values in seconds.items()}
    to_loop, to_networks = rates["engine"] / rates["cohen_loop"], rates["engine"] / rates["networks"]
    benchmark.extra_info.update(rates, precision=best, engine_to_cohen_loop=to_loop, engine_to_networks=to_networks)
    benchmark.pedantic(engine_runs, rounds=3)
    print(
        f"\n{purifier:16} engine ({best}) {rates['engine']:7,.0f}/s   plain loop (fp32) {rates['cohen_loop']:7,.0f}/s"
        f"   networks alone {rates['networks']:7,.0f}/s   engine/loop {to_loop:.2f}   engine/networks {to_networks:.2f}"
    )
    assert all(rate > 0 for rate in rates.values())
