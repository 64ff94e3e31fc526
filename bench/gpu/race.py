"""Races of this engine, a plain Cohen loop and the networks alone."""

from __future__ import annotations

import json
import platform
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.engine.devices import choose_devices, cores, processor_name
from bench.engine.engine import Engine
from bench.engine.noise import PURIFIER, RowRng
from bench.files import make_folder, write_file
from bench.gpu.contenders import cohen_loop, matmul_rate, networks_alone
from bench.provenance import git_revision
from bench.records import Block, Cell, Counts, Task
from bench.sweep import preset
from bench.sweep.plan import make_plan
from bench.sweep.run import start
from bench.sweep.settle import settle_options

SIGMA = 0.5
SONG = {"img_resolution": 32, "model_channels": 128, "channel_mult": [2, 2, 2]}  # 55.7 M parameters: EDM's CIFAR-10
EDM = {"t_min": 0.002, "t_max": 80.0, "time_scale": 0.25}
_SMALL_SONG = {"model_channels": 16, "channel_mult": [1, 2], "num_blocks": 1}
_SMALL_VIT: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 96,
}
CLASSES = 10


def machine() -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else processor_name(),
        "workers": torch.cuda.device_count() if cuda else cores(),
        "torch": torch.__version__,
        "platform": f"{platform.system()} {platform.machine()}",
        "git": git_revision(),
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def full_size(folder: Path, small: bool = False) -> Path:
    """Write a preset of full-size networks with random weights: EDM's UNet for CIFAR-10, and ViT-B/16 at 224 pixels.

    `small` makes networks of the same kinds that a CPU runs in milliseconds, to try the race itself.
    """
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    from purifiers.nets.hub.cards import Card
    from purifiers.nets.hub.files import build, save

    torch.manual_seed(0)
    card = Card("edm", SONG | _SMALL_SONG if small else SONG, EDM, network="SongUNet")
    unet = save(folder / "unet.safetensors", build(card).network, card)
    vit = ViTConfig(**{"num_labels": CLASSES, **(_SMALL_VIT if small else {})})
    ViTForImageClassification(vit).save_pretrained(folder / "vit")
    ViTImageProcessor().save_pretrained(folder / "vit")
    rng = np.random.default_rng(0)
    for k in range(CLASSES):
        image = Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
        image.save(make_folder(folder / "images" / f"class-{k}") / "0.png")
    fields = {"dataset": "folder", "data": str(folder / "images"), "images": CLASSES, "sigmas": [SIGMA]}
    lines = [f"{k} = {json.dumps(v)}" for k, v in fields.items()]
    lines += ['purifiers = ["onestep-edm"]', f'classifier = {{ name = "hf", path = "{folder / "vit"}" }}']
    path = folder / "full-size.toml"
    return write_file(path, "\n".join([*lines, "[networks]", f'edm = "{unet}"', ""]))


class Race:
    """The contenders of a pair of networks, on all of this machine.

    The engine and the networks alone run as a sweep does, in a process per core or GPU, in the same precision,
    compilation and batches. The plain loop runs in this process, with as many threads as there are cores, as anyone
    runs it; and once more in a process per core of one thread each, which published code leaves to its user.

    Parameters:
        path: a preset; purifiers: comma-separated.
        options: how the engine computes, as fields of a preset (`classifier`: its precision).
        draws: of each image: as many are one batch of the plain loop.
        images: that the engine and the networks count.
        looped: of these, as many as the plain loop counts.
    """

    def __init__(
        self, path: str, purifiers: str, options: Mapping[str, Any], draws: int, images: int = 10, looped: int = 10
    ):
        given = {"purifiers": purifiers, "sigmas": [SIGMA], "images": images}
        self.looped = looped
        chosen = preset.load_preset(path, {**given, "precision": "fp32"})
        self.devices = choose_devices(chosen.device, 0)
        kind = self.devices[0].split(":")[0]
        plain = make_plan(chosen, kind)
        named = chosen.classifier
        classifier = preset.Plugin(
            **{"name": named.name, **named.parameters, "precision": options.get("classifier", "fp32")}
        )
        self.tuned = settle_options(
            make_plan(preset.load_preset(path, {**given, **options, "classifier": classifier}), kind), self.devices[0]
        )
        self.cells = {cell.label: (cell, other) for cell, other in zip(self.tuned.cells, plain.cells, strict=True)}
        self.draws, self.batch = draws, int(self.tuned.preset.batch)
        self.images = {i: self.tuned.split.images[i] for i in self.tuned.images}
        self.executor = start(self.tuned, self.devices)
        self.here = Engine(self.images, plain.weights, torch.device(self.devices[0]), plain.plugin_files)
        if kind == "cpu":
            torch.set_num_threads(cores())

    @property
    def samples(self) -> int:
        return self.draws * len(self.images)

    def samples_of(self, contender: str) -> int:
        return self.draws * self.looped if contender.startswith("cohen_loop") else self.samples

    def tasks(self, cell: Cell) -> list[Task]:
        """The work of the engine: batches of the preset's size, at least one for each worker."""
        batch = min(self.batch, self.samples // len(self.devices))
        each = max(1, batch // self.draws)
        blocks = [Block(cell.key, image, "estimate", 0, self.draws) for image in self.images]
        return [Task(cell, tuple(blocks[k : k + each])) for k in range(0, len(blocks), each)]

    def on_workers(self, function: Callable[..., Any], *arguments: Sequence[Any]) -> list[Any]:
        """The results of a function of an engine and some arguments, on the workers, for each of these."""
        futures = [self.executor.call(function.__name__, function, *call) for call in zip(*arguments, strict=True)]
        return [future.result() for future in futures]

    def count(self, tasks: Sequence[Task]) -> list[list[Counts]]:
        """The counts of tasks, through the executor of a sweep, which is kept as full as a sweep keeps it."""
        waiting, running, counts = deque(tasks), deque[Future[list[Counts]]](), []
        while waiting or running:
            while waiting and len(running) < self.executor.slots:
                running.append(self.executor.submit(waiting.popleft()))
            counts.append(running.popleft().result())
        return counts

    def contenders(self, label: str) -> dict[str, Callable[[], Any]]:
        cell, plain = self.cells[label]
        tasks = self.tasks(cell)
        sizes = [sum(b.draws for b in task.blocks) for task in tasks]
        images = list(self.images.values())[: self.looped]
        return {
            "engine": lambda: self.count(tasks),
            "cohen_loop": lambda: [cohen_loop(self.here, plain, image, self.draws) for image in images],
            "networks": lambda: self.on_workers(networks_alone, [cell] * len(sizes), sizes),
            "cohen_loop_per_core": lambda: self.on_workers(
                cohen_loop, [plain] * len(images), images, [self.draws] * len(images)
            ),
        }

    def flops(self, label: str) -> float:
        """Floating-point operations of one sample's networks."""
        plain = self.cells[label][1]
        padded = int(str(plain.compute["rows"]))  # every call of a network has so many rows
        with torch.inference_mode():
            loaded = self.here._prepare(plain)
            rows = torch.arange(padded, device=self.here.device)
            x = self.here._clean[rows % len(self.here._clean)]
            with FlopCounterMode(display=False) as counter:
                loaded.classifier(loaded.purifier.purify(x, SIGMA, loaded.networks, RowRng(0, PURIFIER, rows, rows)))
        return float(counter.get_total_flops()) / padded

    def matmul_peak(self, label: str) -> float:
        """Operations per second of matrix products in the networks' precision, on all workers at once."""
        return sum(self.on_workers(matmul_rate, [self.cells[label][0].precision] * len(self.devices)))

    def profile(self, label: str) -> dict[str, float]:
        """Shares of the workers' time by stage, from the engine's own records; `rest` is what they did besides."""
        started = time.perf_counter()
        done = self.count(self.tasks(self.cells[label][0]))
        wall = (time.perf_counter() - started) * len(self.devices)
        costs = [counts.cost for task in done for counts in task]
        parts = {
            "noise": sum(c.noise_s for c in costs) / wall,
            "purifier": sum(c.purify_s for c in costs) / wall,
            "classifier and votes": sum(c.classify_s for c in costs) / wall,
        }
        return {**parts, "rest": max(0.0, 1 - sum(parts.values()))}

    def rates(
        self, label: str, seconds: float, rounds: int, without: Sequence[str] = ()
    ) -> tuple[dict[str, float], int]:
        """Samples per second of each contender, the least disturbed of some rounds, and the number of rounds.

        The contenders take turns for `seconds`, but for two rounds at least, of which the first one loads and compiles.
        """
        contenders = {name: run for name, run in self.contenders(label).items() if name not in without}
        best, deadline, done = dict.fromkeys(contenders, float("inf")), 0.0, 0
        while done <= rounds and (done < 2 or time.monotonic() < deadline):
            for name, run in contenders.items():
                started = time.perf_counter()
                run()
                if done:
                    best[name] = min(best[name], time.perf_counter() - started)
            deadline = deadline or time.monotonic() + seconds
            done += 1
        return {name: self.samples_of(name) / taken for name, taken in best.items()}, done - 1

    def row(self, label: str, rates: Mapping[str, float]) -> dict[str, Any]:
        """The figures of a race: rates, ratios, share of the device's matrix products, shares of the stages."""
        return {
            **rates,
            "matmul_share": self.flops(label) * rates["engine"] / self.matmul_peak(label),
            **{f"engine_to_{name}": rates["engine"] / rate for name, rate in rates.items() if name != "engine"},
            "computes": describe(self.cells[label][0]),
            "draws_per_batch_of_the_loop": self.draws,
            "profile": self.profile(label),
        }

    def close(self) -> None:
        self.executor.close()


def describe(cell: Cell) -> str:
    """How a cell computes, for people."""
    parts = [cell.precision, *(f"{k}={v}" for k, v in cell.compute.items())]
    return ", ".join([*parts, f"classifier {cell.classifier_parameters.get('precision', 'fp32')}"])
