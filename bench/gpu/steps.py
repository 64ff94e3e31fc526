"""The steps of `bench gpu check`: each measures one thing on this machine's device and returns JSON.

Every step has a reduced form (`small`) that a CPU does in seconds, so that the steps themselves are tested without a
GPU. Its figures say nothing about a GPU.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from bench.engine import Engine
from bench.engine.devices import choose_devices, prepare_device, synchronize
from bench.engine.noise import SMOOTHING, RowRng
from bench.gpu.race import Race, full_size, machine
from bench.gpu.runs import BLOCK, blocks_of, difference_to, kill_when_counting, run_command
from bench.records import Block, Cell, Task
from bench.sweep import Plan, load_preset, make_plan, settle_options
from bench.sweep.run import images_of, start

AUTO = {"precision": "auto", "channels_last": "auto", "compile": "auto", "rows": "auto", "batch": "auto"}
_FEW = {"precision": "fp32", "rows": 4, "batch": 4}  # of the reduced form
_QUICK = ["--workers", "1", "--no-plots"]  # of its commands
_PURIFIERS = "none,onestep-edm,pf-ode:steps=3"
_PATIENCE = 300  # seconds


def versions(small: bool) -> dict[str, Any]:
    """The machine, and the libraries that decide speed."""
    cuda = torch.cuda.is_available()
    facts: dict[str, Any] = {**machine(), "python": sys.version.split()[0], "cuda": torch.version.cuda}
    if cuda:
        facts |= {"cudnn": torch.backends.cudnn.version(), "memory": torch.cuda.get_device_properties(0).total_memory}
    return facts


def noise(small: bool) -> dict[str, Any]:
    """Microseconds of the noise of a batch: eager torch, the kernel, torch.randn; and how far the first two differ."""
    device = _device()
    rows = [(20, 784)] if small else [(500, 784), (4000, 784), (1000, 3072), (4000, 3072)]
    table, farthest = [], 0.0
    for count, values in rows:
        x, numbers = torch.zeros(count, values, device=device), torch.arange(count, device=device)
        eager, kernel = (RowRng(0, SMOOTHING, numbers, numbers, kernel=used) for used in (False, True))
        if device.type == "cuda":
            farthest = max(farthest, float((eager.normal(x) - kernel.normal(x)).abs().max()))
        calls: dict[str, Callable[[], Any]] = {
            "eager": partial(eager.add_normal_, x, 0.5),
            "kernel": partial(kernel.add_normal_, x, 0.5),
            "randn": partial(torch.randn_like, x),
        }
        table.append({"rows": count, "values": values, **{k: _microseconds(call, device) for k, call in calls.items()}})
    return {"microseconds": table, "farthest": farthest}


def votes(small: bool) -> dict[str, Any]:
    """Votes of every embedded purifier on this device and on the CPU, in fp32; other rounding moves few of them."""
    images, draws = (2, 4) if small else (20, 25)
    planned = _plan({"images": images, "precision": "fp32", "sigmas": [0.5, 1.0]}, "onestep-edm" if small else None)
    engines = [Engine(images_of(planned), planned.weights, prepare_device(d)) for d in (str(_device()), "cpu")]
    differing = total = 0
    for cell in planned.cells:
        task = Task(cell, tuple(Block(cell.key, image, "estimate", 0, draws) for image in planned.images))
        for here, there in zip(*(engine.run(task) for engine in engines), strict=True):
            differing += sum(max(0, a - b) for a, b in zip(here.votes, there.votes, strict=True))
            total += draws
    return {"draws": total, "differing": differing, "share": differing / total}


def batches(small: bool) -> dict[str, Any]:
    """Draws whose vote depends on the size of the batch, in the way that `auto` chooses; there must be none."""
    planned = _settled({"images": 2 if small else 20, "sigmas": [0.5]}, _PURIFIERS)
    draws, sizes = (12, (1, 7, 24)) if small else (50, (1, 7, 137, 500, 1000))
    engine = Engine(images_of(planned), planned.weights, _device())
    counted = {}
    for cell in planned.cells:
        blocks = [Block(cell.key, image, "estimate", k, 1) for image in planned.images for k in range(draws)]
        found = [_in_batches(engine, cell, blocks, size) for size in sizes]
        counted[cell.label] = sum(len(set(votes)) > 1 for votes in zip(*found, strict=True))
    return {"sizes": list(sizes), "draws": len(blocks), "moved": counted, "worst": max(counted.values())}


def resume(small: bool) -> dict[str, Any]:
    """A run that is killed twice (reduced: once) and continued, beside one that is not disturbed."""
    options = ["--images", "4" if small else "100", "--purifiers", "none,onestep-edm"]
    options += ["--sigmas", "0.5", "--batch", "60", *(_QUICK if small else ())]
    with tempfile.TemporaryDirectory(prefix="purifybench-") as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        run_command("run", "embedded", *options, "--out", str(whole))
        for _ in range(1 if small else 2):
            kill_when_counting(["run", "embedded", *options, "--out", str(killed)], killed)
        run_command("run", "embedded", *options, "--out", str(killed))
        first, second = (blocks_of(place) for place in (whole, killed))
    together = first.merge(second, on=BLOCK, suffixes=("", "_again"), how="outer")
    return {"blocks": len(together), "differing": int((together["votes"] != together["votes_again"]).sum())}


def embedded_race(small: bool) -> dict[str, Any]:
    """Engine, plain loop and bare networks on the embedded pair."""
    sizes = {"draws": 8, "images": 4, "looped": 1} if small else {"draws": 1000, "images": 100, "looped": 10}
    options = _FEW if small else {**AUTO, "classifier": "auto"}
    purifiers = "onestep-edm" if small else "onestep-edm,pf-ode:steps=3"
    return _race("embedded", purifiers, options, sizes, 1 if small else 8)


def full_size_race(small: bool) -> dict[str, Any]:
    """The same on the full-size pair: EDM's UNet for CIFAR-10 and ViT-B/16 at 224 pixels, with random weights."""
    sizes = {"draws": 2, "images": 2, "looped": 1} if small else {"draws": 1000, "images": 10, "looped": 1}
    options = _FEW if small else {**AUTO, "classifier": "auto"}
    with tempfile.TemporaryDirectory(prefix="purifybench-") as folder:
        return _race(str(full_size(Path(folder), small)), "onestep-edm", options, sizes, 1 if small else 20)


def classifier_kernels(small: bool) -> dict[str, Any]:
    """Where the time of the full-size classifier goes: the kernels of each layout, eager and compiled.

    On one H200 the compiled classifier was half as fast as the eager one. The kernels of both say why.
    """
    rows, activity = (4, ProfilerActivity.CPU) if small else (1000, ProfilerActivity.CUDA)
    ways = {}
    with tempfile.TemporaryDirectory(prefix="purifybench-") as folder:
        path = str(full_size(Path(folder), small))
        named = load_preset(path, {}).classifier
        classifier = named.model_copy(update={"precision": "fp32" if small else "bf16"})
        for channels_last, mode in itertools.product((False, True), ("no", "default")):
            options = {"channels_last": channels_last, "compile": mode, "rows": rows, "purifiers": "none"}
            preset = load_preset(path, {**options, "classifier": classifier})
            planned = settle_options(make_plan(preset, _device().type), str(_device()))
            engine = Engine(images_of(planned), planned.weights, _device())
            with torch.inference_mode():
                loaded = engine._prepare(planned.cells[0])
                x = torch.rand(rows, *planned.split.images.shape[1:], device=_device())
                taken = _microseconds(partial(loaded.classifier, x), _device(), 1 if small else 3)
                with profile(activities=[activity]) as profiled:
                    loaded.classifier(x)
                    synchronize(_device())
            found = [
                (e.key[:100], e.self_cpu_time_total if small else e.self_device_time_total, e.count)
                for e in profiled.key_averages()
            ]
            longest = sorted(found, key=lambda kernel: -kernel[1])[:10]
            ways[f"channels_last={channels_last}, compile={mode}"] = {
                "us_per_row": taken / rows,
                "kernels": [{"kernel": name, "us_per_row": us / rows, "calls": n} for name, us, n in longest],
            }
    return {"rows": rows, "ways": ways}


def tuning(small: bool) -> dict[str, Any]:
    """Seconds in which `auto` decides for the full-size pair on a machine that has measured nothing yet."""
    options = {**_FEW, "precision": "auto", "images": 2} if small else AUTO
    with tempfile.TemporaryDirectory(prefix="purifybench-") as folder:
        os.environ["PURIFYBENCH_SPEED"] = str(Path(folder, "speed"))
        preset, messages = load_preset(str(full_size(Path(folder), small)), options), list[str]()
        planned = make_plan(preset, _device().type)
        started = time.perf_counter()
        settled = settle_options(planned, str(_device()), notify=messages.append)
    return {"seconds": time.perf_counter() - started, "messages": messages, "tuning": settled.tuning}


def embedded_sweep(small: bool) -> dict[str, Any]:
    """The embedded benchmark: a sweep for the caches (not reduced), one that is timed; beside the committed counts."""
    options = ["--images", "3", "--purifiers", "none,onestep-edm", "--sigmas", "0.5", *_QUICK] if small else []
    with tempfile.TemporaryDirectory(prefix="purifybench-") as folder:
        seconds = []
        for name in ("second",) if small else ("first", "second"):
            started = time.perf_counter()
            run_command("run", "embedded", *options, "--out", str(Path(folder, name)))
            seconds.append(time.perf_counter() - started)
        blocks = blocks_of(Path(folder, "second"))
    blocks["seconds"] = blocks[["noise_s", "purify_s", "classify_s"]].sum(axis=1)
    none = blocks[blocks["purifier"] == "none"].groupby("sigma", sort=True)[["draws", "seconds"]].sum()
    return {
        "first_s": seconds[0],
        "seconds": seconds[-1],
        "device_s": float(blocks["seconds"].sum()),
        "none_per_s": (none["draws"] / none["seconds"]).tolist(),
        **difference_to(blocks, Path(__file__).parents[2] / "results" / "embedded"),
    }


def second_worker(small: bool) -> dict[str, Any]:
    """Draws per second of the embedded pair with one worker and with two on the same device."""
    images, draws = (2, 4) if small else (100, 500)
    planned = _settled({"images": images, "sigmas": [0.5]}, "onestep-edm")
    (cell,), rates = planned.cells, {}
    tasks = [Task(cell, (Block(cell.key, image, "estimate", 0, draws),)) for image in planned.images]
    for workers in (1, 2):
        executor = start(planned, [str(_device())] * workers)
        try:
            for timed in (False, True):  # the first round loads and compiles
                started = time.perf_counter()
                for future in [executor.submit(task) for task in tasks * (1 if small or not timed else 5)]:
                    counts = future.result(_PATIENCE)
                taken = time.perf_counter() - started
            rates[str(workers)] = len(tasks) * (1 if small else 5) * sum(c.block.draws for c in counts) / taken
        finally:
            executor.close()
    return {"draws_per_s": rates, "gain": rates["2"] / rates["1"]}


def _device() -> torch.device:
    return prepare_device(choose_devices("auto", 1)[0])


def _plan(fields: dict[str, Any], purifiers: str | None) -> Plan:
    return make_plan(load_preset("embedded", {**fields, "purifiers": purifiers}), _device().type)


def _settled(fields: dict[str, Any], purifiers: str) -> Plan:
    """A plan of the embedded preset in the way that it chooses on this device."""
    return settle_options(_plan(fields, purifiers), str(_device()))


def _race(
    preset: str, purifiers: str, options: dict[str, Any], sizes: dict[str, int], seconds: float
) -> dict[str, Any]:
    race = Race(preset, purifiers, options, **sizes)
    try:
        rows = {}
        for label in race.cells:
            rates, rounds = race.rates(label, seconds, 9, ["cohen_loop_per_core"])
            rows[label] = {**race.row(label, rates), "rounds": rounds}
        return rows
    finally:
        race.close()


def _microseconds(call: Callable[[], Any], device: torch.device, repeats: int = 20) -> float:
    """Of one call, the least disturbed of five series of calls."""
    best = float("inf")
    for _ in range(6):  # the first one compiles
        synchronize(device)
        started = time.perf_counter()
        for _ in range(repeats):
            call()
        synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 1e6 * best / repeats


def _in_batches(engine: Engine, cell: Cell, blocks: Sequence[Block], size: int) -> list[tuple[int, ...]]:
    tasks = [Task(cell, tuple(blocks[k : k + size])) for k in range(0, len(blocks), size)]
    return [counts.votes for task in tasks for counts in engine.run(task)]
