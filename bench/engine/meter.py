"""Count network evaluations and FLOPs, time stages, share the cost of a batch among its blocks."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from bench.records import Block, Cell, Cost, Counts, StaticCost

_STAGES = ("noise_s", "purify_s", "classify_s")  # fields of a cost


class CountedNetwork:
    """A denoiser that counts its rows. Purifiers see this object only, with the few attributes that they may use.

    Attributes:
        rows: evaluated since `begin`.
        total: sum of all outputs since `begin`, on the device (None: of none); finite only if they all are. Purifiers
            clip outputs of networks, so an overflow would not show in the purified images.
    """

    def __init__(self, denoiser):
        self._denoiser = denoiser
        self.begin()
        self.t_min, self.t_max = denoiser.t_min, denoiser.t_max

    def begin(self) -> None:
        """Reset the counters."""
        self.rows = 0
        self.total: Tensor | None = None

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        self.rows += len(u)
        output = self._denoiser(u, t)
        sum_ = output.sum(dtype=torch.float32)
        self.total = sum_ if self.total is None else self.total + sum_
        return output

    def evaluations(self) -> int:
        """Rows through the network itself since it was loaded, also of calls that this object did not see."""
        return getattr(getattr(self._denoiser, "network", None), "evaluated", 0)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return self._denoiser.levels(t, steps, t_end)


class Stopwatch:
    """Seconds of device time by stage, measured without synchronising.

    On a GPU, CUDA events mark the beginning and the end of a stage and are read after the batch.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stages: list[tuple[str, Any, Any]] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self._now()
        yield
        self._stages.append((name, started, self._now()))

    def seconds(self) -> dict[str, float]:
        """Seconds by stage; waits for the device."""
        totals: dict[str, float] = defaultdict(float)
        for name, started, ended in self._stages:
            if self.device.type == "cuda":
                ended.synchronize()
                totals[name] += started.elapsed_time(ended) / 1000
            else:
                totals[name] += ended - started
        return totals

    def _now(self) -> Any:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event


def share_cost(blocks: Sequence[Block], votes: np.ndarray, batch: Cost) -> list[Counts]:
    """Share the cost of a batch among its blocks by draws; rows are integers that add up to those of the batch."""
    ends = np.cumsum([block.draws for block in blocks])
    total = int(ends[-1])
    rows = [np.diff(count * ends // total, prepend=0).tolist() for count in (batch.nfe, batch.classifier_rows)]
    counts = []
    for block, classes, nfe, classifier_rows in zip(blocks, votes.tolist(), *rows, strict=True):
        seconds = {name: getattr(batch, name) * (block.draws / total) for name in _STAGES}
        cost = replace(batch, nfe=nfe, classifier_rows=classifier_rows, **seconds)
        counts.append(Counts(block, tuple(classes), cost))
    return counts


class _Evaluation(NamedTuple):
    """One row through a network: FLOPs, number of parameters, and a fingerprint of the operations."""

    flops: int
    parameters: int
    operations: str


class _Trace(TorchDispatchMode):
    """Records the tensor operations inside its context, with the shapes of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.entries.append(f"{func} {list(result.shape) if isinstance(result, Tensor) else ''}")
        return result

    @contextmanager
    def as_one(self, entry: object) -> Iterator[None]:
        """Record all operations inside the context as one entry."""
        self.entries.append(str(entry))
        self.__exit__(None, None, None)
        try:
            yield
        finally:
            self.__enter__()

    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.entries).encode()).hexdigest()[:16]


class _TracedNetwork(CountedNetwork):
    """A network whose evaluation, with its preconditioning, is one entry of a trace."""

    def __init__(self, denoiser: Any, evaluation: _Evaluation, trace: _Trace):
        super().__init__(denoiser)
        self.evaluation, self._trace = evaluation, trace

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor:
        with self._trace.as_one((len(u), self.evaluation)):
            return super().__call__(u, t)


class _CountedNoise:
    """Normal noise for a purifier. Its values decide no counts, so the streams of a run are not needed.

    Attributes:
        numbers: drawn so far.
    """

    def __init__(self, trace: _Trace):
        self.numbers, self._trace, self._generator = 0, trace, torch.Generator().manual_seed(0)

    def normal(self, like: Tensor) -> Tensor:
        self.numbers += like.numel()
        with self._trace.as_one(f"noise {list(like.shape)}"):
            return torch.randn(like.shape, generator=self._generator).to(like)


@torch.inference_mode()
def weigh(cells: Sequence[Cell], load: Callable[[Cell], Any], image: Tensor) -> list[StaticCost | str]:
    """The static cost of each cell, or an error: one row passes each network, uncompiled, and each cell's purifier.

    Parameters:
        load: as `Loader.load`. The loader may not be the one of a run, because its networks are loaded uncompiled.
        image: clean, `[C,H,W]` in [0,1].
    """
    known: dict[Any, _Evaluation] = {}  # by network: cells share them
    results: list[StaticCost | str] = []
    for cell in cells:
        try:
            results.append(_weigh(cell, load, image[None], known))
        except Exception as error:  # a cost that is not known stops no run; a plugin's fault is found when it counts
            results.append(f"{cell.label}: {type(error).__name__}: {error}".partition("\n")[0])
    return results


def _weigh(cell: Cell, load: Callable[[Cell], Any], x: Tensor, known: dict[Any, _Evaluation]) -> StaticCost:
    loaded, trace = load(replace(cell, compute={"rows": 1})), _Trace()
    noise = _CountedNoise(trace)
    x = x + cell.sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
    networks = {}
    for role, counted in loaded.networks.items():
        denoiser = counted._denoiser
        if denoiser not in known:
            level = min(2 * cell.sigma, denoiser.t_max)
            known[denoiser] = _evaluation(partial(denoiser, 2 * x - 1, level), denoiser.network)
        networks[role] = _TracedNetwork(denoiser, known[denoiser], trace)
    fixed = loaded.classifier_network
    if fixed not in known:
        known[fixed] = _evaluation(partial(loaded.classifier, x), fixed)
    with trace:
        loaded.purifier.purify(x.clone(), cell.sigma, networks, noise)
    evaluations = sum(network.rows for network in networks.values())
    flops = sum(network.rows * network.evaluation.flops for network in networks.values())
    return StaticCost(
        evaluations=evaluations,
        evaluation_flops=flops / max(1, evaluations),
        noise_numbers=noise.numbers,
        parameters=sum(network.evaluation.parameters for network in networks.values()),
        classifier_flops=known[fixed].flops,
        classifier_parameters=known[fixed].parameters,
        operations=trace.digest(),
    )


def _evaluation(call: Callable[[], object], network: Any) -> _Evaluation:
    """Count what one row through a network does, with the inputs that the network has in a call."""
    inputs: list[tuple[Tensor, ...]] = []
    hook = network.register_forward_pre_hook(lambda _, args: inputs.append(args))
    try:
        call()
    finally:
        hook.remove()
    row = [tensor[:1] for tensor in inputs[0]]
    fast = torch.backends.mha.get_fastpath_enabled()
    # Fused attention of a CPU and of `nn.MultiheadAttention` is unknown to the counter, so it is computed in parts.
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH), _Trace() as trace, FlopCounterMode(display=False) as counter:
            network(*row)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return _Evaluation(counter.get_total_flops(), parameters, trace.digest())
