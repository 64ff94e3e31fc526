"""What is raced: this engine, a plain Cohen loop, the networks alone. Worker processes import this module, too."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from bench.engine.devices import choose_devices, cores, processor_name
from bench.engine.engine import Engine
from bench.engine.noise import PURIFIER, RowRng
from bench.executors import local
from bench.provenance import git_revision
from bench.records import Block, Cell, Task
from bench.sweep import preset
from bench.sweep.plan import make_plan
from bench.sweep.settle import settle_options

SIGMA = 0.5
SONG = {"img_resolution": 32, "model_channels": 128, "channel_mult": [2, 2, 2]}  # 55.7 M parameters: EDM's CIFAR-10
EDM = {"t_min": 0.002, "t_max": 80.0, "time_scale": 0.25}
CLASSES = 10
MATMUL = 2048  # side of the matrices whose product is the device's peak


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


def full_size(folder: Path) -> Path:
    """A preset of full-size networks with random weights: EDM's UNet for CIFAR-10, and ViT-B/16 at 224 pixels."""
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    from purifiers.nets.hub.cards import Card
    from purifiers.nets.hub.files import build, save

    torch.manual_seed(0)
    card = Card("edm", SONG, EDM, network="SongUNet")
    unet = save(folder / "unet.safetensors", build(card).network, card)
    ViTForImageClassification(ViTConfig(num_labels=CLASSES)).save_pretrained(folder / "vit")
    ViTImageProcessor().save_pretrained(folder / "vit")
    rng = np.random.default_rng(0)
    for k in range(CLASSES):
        (folder / "images" / f"class-{k}").mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(folder / f"images/class-{k}/0.png")
    fields = {"dataset": "folder", "data": str(folder / "images"), "images": CLASSES, "sigmas": [SIGMA]}
    lines = [f"{k} = {json.dumps(v)}" for k, v in fields.items()]
    lines += ['purifiers = ["onestep-edm"]', f'classifier = {{ name = "hf", path = "{folder / "vit"}" }}']
    path = folder / "full-size.toml"
    path.write_text("\n".join([*lines, "[networks]", f'edm = "{unet}"', ""]))
    return path


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
        self.workers = local.Processes(self.images, self.tuned.weights, self.devices, self.tuned.plugin_files)
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
        """What a function gives in the workers, for each of some arguments."""
        flights = [self.workers._pool.submit(function, *given) for given in zip(*arguments, strict=True)]
        return [flight.result() for flight in flights]

    def contenders(self, label: str) -> dict[str, Callable[[], Any]]:
        cell, plain = self.cells[label]
        tasks = self.tasks(cell)
        sizes = [sum(b.draws for b in task.blocks) for task in tasks]
        images = list(self.images.values())[: self.looped]
        return {
            "engine": lambda: self.on_workers(partial(local._call_engine, "run"), tasks),
            "cohen_loop": lambda: [cohen_loop(self.here, plain, image, self.draws) for image in images],
            "networks": lambda: self.on_workers(networks_alone, [cell] * len(sizes), sizes),
            "cohen_loop_per_core": lambda: self.on_workers(
                cohen_loop_here, [plain] * len(images), images, [self.draws] * len(images)
            ),
        }

    def flops(self, label: str) -> float:
        """Floating-point operations of one sample's networks."""
        with torch.inference_mode(), FlopCounterMode(display=False) as counter:
            loaded = self.here._prepare(self.cells[label][1])
            x, rows = self.here._clean[:1], torch.zeros(1, dtype=torch.int64, device=self.here.device)
            counter.flop_counts.clear()
            loaded.classifier(loaded.purifier.purify(x, SIGMA, loaded.networks, RowRng(0, PURIFIER, rows, rows)))
        return float(counter.get_total_flops())

    def matmul_peak(self, label: str) -> float:
        """Operations a second of matrix products in the networks' precision, on all workers at once."""
        return sum(self.on_workers(matmul_rate, [self.cells[label][0].precision] * len(self.devices)))

    def profile(self, label: str) -> dict[str, float]:
        """Shares of the workers' time by stage, from the engine's own records; `rest` is what they did besides."""
        started = time.perf_counter()
        done = self.on_workers(partial(local._call_engine, "run"), self.tasks(self.cells[label][0]))
        wall = (time.perf_counter() - started) * len(self.devices)
        costs = [counts.cost for task in done for counts in task]
        parts = {
            "noise": sum(c.noise_s for c in costs) / wall,
            "purifier": sum(c.purify_s for c in costs) / wall,
            "classifier and votes": sum(c.classify_s for c in costs) / wall,
        }
        return {**parts, "rest": max(0.0, 1 - sum(parts.values()))}

    def close(self) -> None:
        self.workers.close()


@torch.inference_mode()
def cohen_loop(engine: Engine, cell: Cell, image: np.ndarray, draws: int) -> np.ndarray:
    """What published code does with an image: fresh noise, a batch, argmax to the host, counted there; fp32, eager."""
    loaded, device = engine._prepare(cell), engine.device
    batch = torch.from_numpy(image).to(device).repeat(draws, 1, 1, 1)
    x = batch + torch.randn_like(batch) * SIGMA
    rows = torch.arange(draws, device=device)
    purified = loaded.purifier.purify(x, SIGMA, loaded.networks, RowRng(0, PURIFIER, rows, rows))
    counts = np.zeros(CLASSES, dtype=int)
    for label in loaded.classifier(purified).argmax(1).cpu().numpy():
        counts[label] += 1
    return counts


def cohen_loop_here(cell: Cell, image: np.ndarray, draws: int) -> np.ndarray:
    assert local._engine is not None
    return cohen_loop(local._engine, cell, image, draws)


def networks_alone(cell: Cell, rows: int) -> None:
    """The ceiling, in a worker: raw networks and classifier on ready-made input, as often as a purifier calls them."""
    engine = local._engine
    assert engine is not None
    with torch.inference_mode():
        loaded = engine._prepare(cell)
        x = torch.rand(rows, *engine._clean.shape[1:], device=engine.device)
        time_input = torch.full((rows,), 0.1, device=engine.device)
        calls = loaded.purifier.nfe() or 0
        for k in range(calls):
            denoiser: Any = list(loaded.networks.values())[k % len(loaded.networks)]._denoiser
            denoiser.network(x.to(denoiser.precision), time_input)
        loaded.classifier(x).argmax(1)
        if engine.device.type == "cuda":
            torch.cuda.synchronize(engine.device)


def matmul_rate(precision: str) -> float:
    """Operations a second of products of square matrices, the best of some, in a worker."""
    from bench.engine.compute import PRECISIONS, float32_arithmetic

    engine = local._engine
    assert engine is not None
    device, best = engine.device, 0.0
    with torch.inference_mode(), float32_arithmetic(precision, device):
        side = MATMUL * (4 if device.type == "cuda" else 1)
        a, b = (torch.randn(side, side, device=device).to(PRECISIONS[precision]) for _ in range(2))
        for _ in range(4):
            started = time.perf_counter()
            a @ b
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = max(best, 2 * side**3 / (time.perf_counter() - started))
    return best


def named(how: Cell) -> str:
    """How a cell computes, for people."""
    parts = [how.precision, *(f"{k}={v}" for k, v in how.compute.items())]
    return ", ".join([*parts, f"classifier {how.classifier_parameters.get('precision', 'fp32')}"])
