"""Turn blocks of draws into counts: noise, purify, classify, vote; a batch holds many images."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor, nn

from bench.engine.arithmetic import float32_arithmetic
from bench.engine.checks import Checks, out_of_memory
from bench.engine.contracts import Examination, Finding, Subject, examine, namespaces_of, settings_kept
from bench.engine.devices import device_name, peak_bytes, to_device, to_host
from bench.engine.loader import Loaded, Loader, LoadError
from bench.engine.meter import Stopwatch, share_cost, weigh
from bench.engine.noise import PURIFIER, SMOOTHING, RowRng, add_discrete_noise, is_quantised
from bench.engine.stages import classify, predict, purify, vote
from bench.engine.versions import NOISE_KERNEL
from bench.records import DISCRETE, Block, Cell, Cost, Counts, Shown, StaticCost, Task

_SELECTION = 1 << 40  # selection draws are numbered from here, so they share no noise with estimation draws
_WARM_UP_ROWS = 8
FEWEST_EXAMINED = 8  # rows


@dataclass
class Engine:
    """Runs tasks on one device. Networks stay loaded from task to task.

    Parameters:
        images: clean images `[C,H,W]` in [0,1] by index.
        weights: role -> network, as `purifiers.nets.load` takes it.
        device: where the networks run.
        plugin_files: kind -> plugin name -> path, of plugins named by path.
        loader: replaces the loader of `weights` and `plugin_files`.
    """

    images: Mapping[int, np.ndarray]
    weights: Mapping[str, str]
    device: torch.device
    plugin_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    loader: Loader | None = None
    _loaded: dict[str, Loaded] = field(default_factory=dict)
    _most: dict[str, int] = field(default_factory=dict)  # purifier -> draws that fit into memory, if not all did

    def __post_init__(self) -> None:
        self.name = secrets.token_hex(4)  # tells the workers of a run apart
        self._rows = {image: row for row, image in enumerate(self.images)}
        self._clean = torch.from_numpy(np.stack(list(self.images.values()))).to(self.device)
        shape = tuple(self._clean.shape[1:])
        self._loader = self.loader or Loader(self.weights, self.device, shape, self.plugin_files)

    @cached_property
    def differentiable(self) -> Loader:
        """A loader of the same plugins and networks, of copies that are made outside of inference mode."""
        return self._loader.unloaded()

    def run(self, task: Task) -> list[Counts]:
        """Counts of every block of a task, with the task's cost shared by draws; raises as `begin`."""
        return self.begin(task)()

    def begin(self, task: Task) -> Callable[[], list[Counts]]:
        """Start a task; the returned function waits for its counts, with the task's cost shared by draws.

        A GPU computes while the host goes on: if the next task begins before the counts of this one are read, the
        device never waits. On a CPU the task is done when this returns.

        A task that does not fit into memory is run in halves, and so are later tasks of its purifier. The rows in one
        call of a network never shrink: they are part of the cell's identity.

        Raises:
            PluginFault: the purifier or the classifier raised or returned a wrong value; the message names it. The
                returned function raises it, too.
            LoadError: a plugin or network cannot be loaded, or one block alone does not fit into memory.
        """
        draws, label = sum(block.draws for block in task.blocks), task.cell.label
        if len(task.blocks) > 1 and draws > self._most.get(label, draws):
            return self._halves(task)
        try:
            return self._begin(task)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(task.blocks) == 1:
                problem = str(error).partition("\n")[0] or type(error).__name__
                raise LoadError(
                    f"{task.cell.label}: a block of {task.blocks[0].draws} draws does not fit into memory ({problem}); "
                    "give fewer --rows (other cells), a smaller --block, or fewer --workers"
                ) from error
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self._most[label] = min(draws - 1, self._most.get(label, draws))
        return self._halves(task)

    def _halves(self, task: Task) -> Callable[[], list[Counts]]:
        half = len(task.blocks) // 2
        halves = task.blocks[:half], task.blocks[half:]
        counted = [counts for blocks in halves for counts in self.run(Task(task.cell, blocks))]
        return lambda: counted

    @torch.inference_mode()
    def _begin(self, task: Task) -> Callable[[], list[Counts]]:
        cell, blocks = task.cell, task.blocks
        loaded = self._prepare(cell)
        watch, checks = Stopwatch(self.device), Checks()
        before = loaded.classifier_network.evaluated
        with float32_arithmetic(cell.precision, self.device):
            with watch.stage("noise_s"):
                x, rng, block_of_row = self._noisy(cell, blocks)
            with watch.stage("purify_s"):
                purified = purify(cell, loaded, x, rng, checks)
            with watch.stage("classify_s"):
                votes = vote(cell, loaded, purified, block_of_row, len(blocks), checks)
        nfe = sum(network.rows for network in loaded.networks.values())
        classified = loaded.classifier_network.evaluated - before  # some classifiers vote over copies of an image
        start_s, loaded.start_s = loaded.start_s, {}
        read = to_host(votes)
        checks.fetch()

        def finish() -> list[Counts]:
            counted = read().numpy()
            checks.settle()
            memory, device = peak_bytes(self.device), device_name(self.device)
            cost = Cost(nfe, classified, **watch.seconds(), peak_bytes=memory, device=device)
            first, *others = share_cost(blocks, counted, cost)
            return [replace(c, worker=self.name) for c in (replace(first, start_s=start_s), *others)]

        return finish

    @torch.inference_mode()
    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Shown:
        """An estimation draw of some images: noisy and purified `[M,C,H,W]`, and the predicted class `[M]`.

        Of a purifier that votes over several purified images, the first one is shown.

        Raises:
            PluginFault, LoadError: as `run`.
        """
        loaded, checks = self._prepare(cell), Checks()
        x, rng, _ = self._noisy(cell, [Block(cell.key, image, "estimate", draw, 1) for image in images])
        with float32_arithmetic(cell.precision, self.device):
            purified = purify(cell, loaded, x.clone(), rng, checks)
            copy = purified.clone()  # a classifier may write into its input
            predicted, _ = predict(cell, loaded, copy, checks)
        checks.settle()
        shown = purified[0] if purified.ndim > x.ndim else purified
        return x.cpu().numpy(), shown.cpu().numpy(), predicted.cpu().numpy()

    def weigh(self, cells: Sequence[Cell]) -> list[StaticCost | str]:
        """The static cost of each cell, or why it is not known. The networks are loaded apart, uncompiled, for it."""
        return weigh(cells, self._loader.unloaded().load, self._clean[0])

    def examine(self, cell: Cell, plugin: str, rows: int) -> Examination:
        """Check a cell's `purifier` or `classifier` (`plugin`) on `rows` noisy images, or fewer if memory is short.

        Raises:
            PluginFault, LoadError: as `run`.
        """
        try:
            return self._examine(cell, plugin, rows)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if rows < FEWEST_EXAMINED:
                raise LoadError(f"{cell.label}: {rows} rows do not fit into memory; give fewer --workers") from error
        return self.examine(cell, plugin, rows // 2)

    @torch.inference_mode()
    def _examine(self, cell: Cell, plugin: str, rows: int) -> Examination:
        loaded, numbers = self._prepare(cell), list(self.images)
        blocks = [Block(cell.key, numbers[i % len(numbers)], "estimate", i // len(numbers), 1) for i in range(rows)]
        networks = [n.evaluations for n in loaded.networks.values()]
        uncounted = 0

        def call_purifier(x: Tensor, chosen: Tensor) -> tuple[Tensor, int]:
            nonlocal uncounted
            _, rng, _ = self._noisy(cell, [blocks[i] for i in chosen.tolist()])
            checks, before = Checks(), sum(evaluations() for evaluations in networks)
            purified = purify(cell, loaded, x, rng, checks)
            checks.settle()
            counted = sum(network.rows for network in loaded.networks.values())
            uncounted += max(0, sum(evaluations() for evaluations in networks) - before - counted)
            return (purified.transpose(0, 1) if purified.ndim > x.ndim else purified), counted

        def call_classifier(x: Tensor, _: Tensor) -> tuple[Tensor, int]:
            checks, before = Checks(), loaded.classifier_network.evaluated
            logits = classify(cell, loaded, x, checks)
            checks.settle()
            return logits.detach().float(), loaded.classifier_network.evaluated - before

        votes = plugin == "classifier"
        parts = loaded.classifier_network.parts if votes else (loaded.purifier,)
        modules = [part for part in parts[:1] if isinstance(part, nn.Module)]
        call, x = call_classifier if votes else call_purifier, self._noisy(cell, blocks)[0]
        with float32_arithmetic(cell.precision, self.device):
            result = examine(Subject(call, x, modules=modules, namespaces=namespaces_of(*parts)))
        if uncounted:
            hidden = Finding("NFE", f"{uncounted} network evaluations went past the counter")
            result = replace(result, findings=(*result.findings, hidden))
        return result

    def _noisy(self, cell: Cell, blocks: Sequence[Block]) -> tuple[Tensor, RowRng, Tensor]:
        """Noisy images `[B,C,H,W]`, the purifier's noise, and the block index of every row, `[B]` int64."""
        sizes = np.array([b.draws for b in blocks])
        starts = [b.first + _SELECTION * (b.stage == "select") for b in blocks]
        clean = [self._rows[b.image] for b in blocks]
        facts = np.array([[b.image for b in blocks], starts, clean, range(len(blocks))], np.int64)
        by_row = np.repeat(facts, sizes, axis=1)
        by_row[1] += np.arange(by_row.shape[1]) - np.repeat(sizes.cumsum() - sizes, sizes)
        images, draws, clean_rows, block_of_row = to_device(torch.from_numpy(by_row), self.device)
        x, smoothing = self._clean[clean_rows], self._rng(cell, SMOOTHING, images, draws)
        if cell.noise == DISCRETE:
            x = add_discrete_noise(x, cell.sigma, smoothing)
        else:
            smoothing.add_normal_(x, cell.sigma)
        return x, self._rng(cell, PURIFIER, images, draws), block_of_row

    def _rng(self, cell: Cell, stream: str, images: Tensor, draws: Tensor) -> RowRng:
        return RowRng(cell.seed, stream, images, draws, kernel=NOISE_KERNEL in cell.versions)

    def _prepare(self, cell: Cell) -> Loaded:
        """The plugins and networks of a cell: loaded on first use and run once, so that no cost includes start-up."""
        if cell.key not in self._loaded:
            if cell.noise == DISCRETE and not is_quantised(self._clean):
                raise LoadError(
                    "noise = discrete is exact for images of 8 bits only, whose pixels are whole numbers of 1/255 in "
                    "[0,1]; give --noise gaussian"
                )
            loaded, checks = self._loader.load(cell), Checks()
            self._loaded[cell.key] = loaded  # cells share their networks and their classifier
            started = time.perf_counter()
            rows = torch.zeros(_WARM_UP_ROWS, dtype=torch.int64, device=self.device)
            # A setting that the first call changes must show as changed in `examine`.
            with settings_kept(), float32_arithmetic(cell.precision, self.device):
                rng = self._rng(cell, PURIFIER, rows, rows)
                predict(cell, loaded, purify(cell, loaded, self._clean[rows], rng, checks), checks)
            checks.settle()
            loaded.start_s["warm_up_s"] = time.perf_counter() - started
        return self._loaded[cell.key]
