"""Turn blocks of draws into counts: noise, purify, classify, vote, many images to a batch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench import plugins
from bench.meter import CountedNetwork, Stopwatch, device_name, peak_bytes
from bench.noise import PURIFIER, SMOOTHING, RowRng
from bench.types import Block, Cell, Cost, Counts

SELECTION = 1 << 40  # selection draws are numbered from here, so that they share no noise with estimation
SLACK = 0.05  # how far outside [0,1] a bounded purifier may stray by rounding
WARM_UP_ROWS = 8
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


Shown = tuple[np.ndarray, np.ndarray, np.ndarray]


class PluginFault(Exception):
    """A plugin raised, or returned what cannot be classified; its cell fails with this message."""


class LoadError(RuntimeError):
    """A plugin or a network of a cell cannot be made ready; the message names it and the remedy."""


@dataclass(frozen=True)
class Task:
    """Blocks of one cell that travel through the networks together."""

    cell: Cell
    blocks: tuple[Block, ...]


@dataclass
class Loaded:
    """The plugins and networks of a cell, ready to run."""

    purifier: Any
    networks: dict[str, CountedNetwork]
    classifier: Any


@dataclass
class Engine:
    """Runs tasks on one device. Networks stay loaded from task to task.

    Parameters:
        images: clean images `[C,H,W]` in [0,1] by index.
        weights: role -> network, as `purifiers.nets.load` takes it.
        device: where the networks run.
        plugin_files: kind -> plugin name -> path, for those that are given by path.
    """

    images: Mapping[int, np.ndarray]
    weights: Mapping[str, str]
    device: torch.device
    plugin_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _denoisers: dict[tuple[str, str], Any] = field(default_factory=dict)
    _classifiers: dict[tuple[str, str], Any] = field(default_factory=dict)
    _loaded: dict[str, Loaded] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows = {image: row for row, image in enumerate(self.images)}
        self._clean = torch.from_numpy(np.stack(list(self.images.values()))).to(self.device)

    def run(self, task: Task) -> list[Counts]:
        """Counts of every block of a task, with the task's cost shared by draws.

        Where memory does not suffice, the task is run in halves.

        Raises:
            PluginFault: the purifier or the classifier of the cell misbehaved; the message names it.
            LoadError: they, or a network, cannot be made ready; or one block alone is more than memory holds.
        """
        try:
            return self._run(task)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(task.blocks) == 1:
                problem = str(error).partition("\n")[0] or type(error).__name__
                raise LoadError(
                    f"{task.cell.label}: a block of {task.blocks[0].draws} draws does not fit into memory ({problem}); "
                    "give a preset with a smaller `block`, or fewer --workers"
                ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        half = len(task.blocks) // 2
        halves = task.blocks[:half], task.blocks[half:]
        return [counts for blocks in halves for counts in self.run(Task(task.cell, blocks))]

    @torch.inference_mode()
    def _run(self, task: Task) -> list[Counts]:
        cell, blocks = task.cell, task.blocks
        loaded = self._prepare(cell)
        watch = Stopwatch(self.device)
        for network in loaded.networks.values():
            network.rows = 0
        with watch.stage("noise"):
            images, draws, block_of_row = self._rows_of(blocks)
            clean = self._clean[torch.tensor([self._rows[b.image] for b in blocks], device=self.device)[block_of_row]]
            smoothing = RowRng(cell.seed, SMOOTHING, images, draws)
            x = clean.add_(smoothing.normal(clean), alpha=cell.sigma)
            rng = RowRng(cell.seed, PURIFIER, images, draws)
        with watch.stage("purify"):
            purified = self._purify(cell, loaded, x, rng)
        before = getattr(loaded.classifier, "rows", 0)
        with watch.stage("classify"):
            votes = self._vote(cell, loaded, purified, block_of_row, len(blocks))
        nfe = sum(network.rows for network in loaded.networks.values())
        classified = getattr(loaded.classifier, "rows", before + len(x)) - before  # some vote over copies of an image
        return share_cost(
            blocks, votes, (nfe, classified), watch.seconds, peak_bytes(self.device), device_name(self.device)
        )

    @torch.inference_mode()
    def show(self, cell: Cell, images: Sequence[int]) -> Shown:
        """The first estimation draw of some images: noisy and purified `[M,C,H,W]`, and the class given `[M]`.

        Raises:
            PluginFault, LoadError: as `run`.
        """
        loaded = self._prepare(cell)
        rows, draws, _ = self._rows_of(tuple(Block(cell.key, image, "estimate", 0, 1) for image in images))
        clean = self._clean[torch.tensor([self._rows[image] for image in images], device=self.device)]
        x = clean + cell.sigma * RowRng(cell.seed, SMOOTHING, rows, draws).normal(clean)
        purified = self._purify(cell, loaded, x.clone(), RowRng(cell.seed, PURIFIER, rows, draws))
        predicted = self._logits(cell, loaded, purified).argmax(1)
        return x.cpu().numpy(), purified.cpu().numpy(), predicted.cpu().numpy()

    def _rows_of(self, blocks: tuple[Block, ...]) -> tuple[Tensor, Tensor, Tensor]:
        """Image, draw number and block index of every row, `[B]` int64 each."""
        sizes = torch.tensor([b.draws for b in blocks])
        block_of_row = torch.repeat_interleave(torch.arange(len(blocks)), sizes)
        images = torch.tensor([b.image for b in blocks])[block_of_row]
        starts = torch.tensor([b.first + SELECTION * (b.stage == "select") for b in blocks])
        within = torch.arange(len(block_of_row)) - (sizes.cumsum(0) - sizes)[block_of_row]
        rows = images, starts[block_of_row] + within, block_of_row
        return tuple(t.to(self.device) for t in rows)  # type: ignore[return-value]

    def _prepare(self, cell: Cell) -> Loaded:
        """The plugins and networks of a cell, loaded on first use and run once so that no cost includes start-up."""
        if cell.key not in self._loaded:
            purifier = self._plugin(cell, plugins.PURIFIER, cell.purifier, cell.parameters)
            networks = {role: CountedNetwork(self._denoiser(role, cell.precision)) for role in purifier.networks}
            loaded = Loaded(purifier, networks, self._classifier(cell))
            self._loaded[cell.key] = loaded  # cells share their networks and their classifier
            rows = torch.zeros(WARM_UP_ROWS, dtype=torch.int64, device=self.device)
            x = self._clean[rows]
            self._logits(cell, loaded, self._purify(cell, loaded, x, RowRng(cell.seed, PURIFIER, rows, rows)))
        return self._loaded[cell.key]

    def _classifier(self, cell: Cell) -> Any:
        """The classifier's logits function; the last one stays loaded."""
        asked = cell.classifier, json.dumps(dict(cell.classifier_parameters), sort_keys=True)
        if asked not in self._classifiers:
            classifier = self._plugin(cell, plugins.CLASSIFIER, cell.classifier, cell.classifier_parameters)
            try:
                self._classifiers = {asked: classifier.load(str(self.device))}
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                raise LoadError(f"classifier {cell.classifier!r} cannot be loaded ({problem})") from error
        return self._classifiers[asked]

    def _plugin(self, cell: Cell, kind: plugins.Kind, name: str, parameters: Mapping[str, object]) -> Any:
        try:
            plugin = plugins.create(kind, self.plugin_files.get(kind.name, {}).get(name, name), parameters)
        except plugins.PluginError as error:
            raise LoadError(str(error)) from error
        now = plugins.code_hash(type(plugin))
        if now != cell.hashes.get(kind.name, now):
            raise LoadError(f"the code of {kind.name} {name!r} changed since this run was planned; run it again")
        return plugin

    def _denoiser(self, role: str, precision: str) -> Any:
        if (role, precision) not in self._denoisers:
            from purifiers.nets import load
            from purifiers.nets.cards import WeightsError

            try:
                denoiser = load(self.weights[role], device=str(self.device))
            except WeightsError as error:
                raise LoadError(f"network {role!r}: {error}") from error
            self._denoisers[role, precision] = denoiser.compute_in(PRECISIONS[precision])
        return self._denoisers[role, precision]

    def _purify(self, cell: Cell, loaded: Loaded, x: Tensor, rng: RowRng) -> Tensor:
        who = f"purifier {cell.label!r} at sigma = {cell.sigma:g}"
        try:
            purified = loaded.purifier.purify(x, cell.sigma, loaded.networks, rng)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise PluginFault(f"{who} raised {type(error).__name__}: {error}") from error
        if not isinstance(purified, Tensor) or purified.shape != x.shape:
            got = tuple(purified.shape) if isinstance(purified, Tensor) else type(purified).__name__
            raise PluginFault(f"{who} returned {got}, it must return the shape it was given, {tuple(x.shape)}")
        low, high = (float(v) for v in torch.stack(purified.float().aminmax()))
        if not (np.isfinite(low) and np.isfinite(high)):
            raise PluginFault(f"{who} returned values that are not finite")
        if loaded.purifier.bounded and not (low >= -SLACK and high <= 1 + SLACK):
            raise PluginFault(f"{who} returned values from {low:.3g} to {high:.3g}, images must lie in [0,1]")
        return purified.float()

    def _logits(self, cell: Cell, loaded: Loaded, x: Tensor) -> Tensor:
        who = f"classifier {cell.classifier!r}"
        try:
            logits = loaded.classifier(x)
        except Exception as error:
            if out_of_memory(error):
                raise
            raise PluginFault(f"{who} raised {type(error).__name__}: {error}") from error
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x) or not logits.shape[1]:
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise PluginFault(f"{who} returned {got}, it must return [{len(x)}, classes]")
        if not bool(logits.isfinite().all()):
            raise PluginFault(f"{who} returned values that are not finite")
        return logits

    def _vote(self, cell: Cell, loaded: Loaded, x: Tensor, block_of_row: Tensor, blocks: int) -> np.ndarray:
        """Votes per class of every block, `[blocks, K]`; only they leave the device."""
        logits = self._logits(cell, loaded, x)
        classes = logits.shape[1]
        flat = torch.bincount(block_of_row * classes + logits.argmax(1), minlength=blocks * classes)
        return flat.view(blocks, classes).cpu().numpy()


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory did not suffice; on a CPU torch has no class of its own for it."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def share_cost(
    blocks: tuple[Block, ...],
    votes: np.ndarray,
    rows: tuple[int, int],
    seconds: Mapping[str, float],
    peak: int,
    device: str,
) -> list[Counts]:
    """Give each block its part of a batch's cost, by draws; rows are whole and add up to the batch's.

    Parameters:
        rows: through the purifier's networks, and through the classifier's.
    """
    total = sum(b.draws for b in blocks)
    counts, done, given = [], 0, (0, 0)
    for block, row in zip(blocks, votes, strict=True):
        done += block.draws
        part = block.draws / total
        until = rows[0] * done // total, rows[1] * done // total
        cost = Cost(
            nfe=until[0] - given[0],
            classifier_rows=until[1] - given[1],
            noise_s=seconds["noise"] * part,
            purify_s=seconds["purify"] * part,
            classify_s=seconds["classify"] * part,
            peak_bytes=peak,
            device=device,
        )
        given = until
        counts.append(Counts(block, tuple(int(v) for v in row), cost))
    return counts
