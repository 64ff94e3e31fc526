"""Checks of the contract of purifiers and classifiers, by calls on chosen rows. The suite and `bench run` share them.

The result of a row must depend on nothing but (image, draw, seed, weights, parameters): not on other rows, earlier
calls, clocks or global generators. A plugin that breaks the contract raises nothing here; its breaches are returned.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

LONE = (64, 6, 1)  # sizes of the small batches in which rows of a large one are evaluated again
_CLOSE = 1e-4  # absolute and relative: products of matrices are summed in another order in another batch
_SHIFT = 47_851.7  # seconds, 13.3 hours, by which the clocks differ from one call to the next
_SEED = 1_000_003
_CLOCKS = ("time", "monotonic", "perf_counter", "process_time")
_CUDNN = ("benchmark", "deterministic", "allow_tf32")
_TRAINING = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True)
class Finding:
    """A breach of the contract: the name of the check, and a sentence about the plugin."""

    check: str
    problem: str


@dataclass(frozen=True)
class Subject:
    """A plugin under examination.

    Attributes:
        call: evaluates rows: their inputs `[B,...]` and numbers `[B]` -> outputs `[B,...]` and network evaluations.
        inputs: `[N,...]` of all rows, on the device.
        evaluations: of networks for each row, as documented; None if they are not known beforehand.
        modules: torch modules that the plugin calls.
        namespaces: global variables of the plugin's code, whose clocks are shifted.
    """

    call: Callable[[Tensor, Tensor], tuple[Tensor, int]]
    inputs: Tensor
    evaluations: int | None = None
    modules: Sequence[nn.Module] = ()
    namespaces: Sequence[MutableMapping[str, Any]] = ()


@dataclass(frozen=True)
class Examination:
    """The result of an examination.

    Attributes:
        rows: in the large batch.
        exact: whether every row was the same bit for bit in the small ones.
        findings: breaches of the contract; empty if the plugin keeps to it.
    """

    rows: int
    exact: bool
    findings: tuple[Finding, ...]


def examine(subject: Subject) -> Examination:
    """Evaluate all rows in one batch, then once more in small batches, another order and other surroundings."""
    found: dict[str, Finding] = {}

    def report(check: str, problem: str) -> None:
        found.setdefault(check, Finding(check, problem))

    for module in subject.modules:
        if training := [type(m).__name__ for m in module.modules() if _acts_in_training(m)]:
            report("training mode", f"its layer {training[0]} is in training mode; call .eval() when it is loaded")
    buffers = [buffer for module in subject.modules for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    everything = torch.arange(len(subject.inputs), device=subject.inputs.device)
    whole, evaluations = _observed(subject, everything, 0, report)
    # On the CPU, so that the order is the same on every device.
    order = torch.randperm(len(everything), generator=torch.Generator().manual_seed(_SEED)).to(everything.device)
    sizes, start, exact, parts = small_batches(len(everything)), 0, True, 0
    for number, size in enumerate(sizes, 1):
        rows = order[start : start + size]
        part, cost = _observed(subject, rows, number, report)
        start, parts = start + size, parts + cost
        if part.shape != whole[rows].shape:
            report("rows", f"a batch of {size} rows has another output shape than {len(whole)} rows")
            break
        exact &= torch.equal(part, whole[rows])
        if (distance := _distance(part, whole[rows])) is not None and not {"rows", "repetition"} & found.keys():
            report(*_cause(subject, whole, everything, number, size, distance))
    else:
        if evaluations != parts:
            report("NFE", f"{len(whole)} rows cost {evaluations} network evaluations in one batch, {parts} in several")
    documented = subject.evaluations
    if documented is not None and evaluations != documented * len(whole):
        report("NFE", f"measured {evaluations / len(whole):g} NFE, documented {documented}")
    if not all(map(torch.equal, before, buffers)):
        report("state", "a call changes buffers of its network, such as the statistics of a normalisation")
    return Examination(len(whole), exact, tuple(found.values()))


def small_batches(rows: int) -> tuple[int, ...]:
    """Sizes of the small batches: 64, 6 and 1 if there are enough rows, the first of them twice, then the others."""
    sizes = [size for size in LONE if 3 * size <= rows] or [1]
    sizes = [sizes[0], *sizes[1:], sizes[0]]  # two batches of one size with different rows show a cache
    return (*sizes, rows - sum(sizes))


def _acts_in_training(module: nn.Module) -> bool:
    return module.training and isinstance(module, _TRAINING) and getattr(module, "p", 1) != 0


def _observed(subject: Subject, rows: Tensor, number: int, report: Callable[[str, str], None]) -> tuple[Tensor, int]:
    """One call in the surroundings of that number, with reports of all that it changed."""
    x = subject.inputs[rows]
    with _surroundings(number, subject.namespaces) as changed:
        output, evaluations = subject.call(x, rows)
    for name in changed:
        report(name, f"a call uses or changes {name}")
    if not torch.equal(x, subject.inputs[rows]):
        report("input", "a call writes into its input")
    if output.requires_grad:
        report("gradients", "its output carries gradients")
    return output.detach(), evaluations


def _distance(a: Tensor, b: Tensor) -> float | None:
    """The largest difference of values that are not close; None if all are."""
    a, b = a.double(), b.double()
    apart = ~torch.isclose(a, b, rtol=_CLOSE, atol=_CLOSE, equal_nan=True)
    return float((a - b).abs()[apart].max()) if bool(apart.any()) else None


def _cause(subject: Subject, whole: Tensor, rows: Tensor, number: int, size: int, distance: float) -> tuple[str, str]:
    """The check and the problem of a row that differs: does the same batch in a later call differ from itself, too?"""
    later, _ = _observed(subject, rows, 2 * number, lambda *_: None)
    if later.shape != whole.shape or _distance(later, whole) is not None:
        return "repetition", (
            f"it does not repeat itself (values differ by up to {distance:.2g}): the same rows in a later call differ, "
            "so it depends on earlier calls, a clock, or random numbers of its own"
        )
    return "rows", (
        f"a row depends on the rows beside it or on their number (values differ by up to {distance:.2g} between "
        f"{len(whole)} rows and {size} of them in another order)"
    )


def namespaces_of(*plugins: Any) -> list[MutableMapping[str, Any]]:
    """The global variables of the modules that define some plugins: their classes, or functions."""
    names = {parent.__module__ for plugin in plugins for parent in type(plugin).__mro__} - {"builtins"}
    spaces: list[MutableMapping[str, Any]] = [
        vars(sys.modules[name]) for name in sorted(names) if name in sys.modules and not name.startswith("torch")
    ]
    return spaces + [space for plugin in plugins if isinstance(space := getattr(plugin, "__globals__", None), dict)]


@contextmanager
def _surroundings(number: int, namespaces: Sequence[MutableMapping[str, Any]]) -> Iterator[list[str]]:
    """Global generators seeded by `number`, and clocks shifted by it; afterwards as before.

    Yields a list that holds, after the context, the names of what was changed inside.
    """
    states = _states()
    _seed(_SEED + number)
    seeded = _states()
    try:
        with settings_kept() as changed, _shifted_clocks(number * _SHIFT, namespaces):
            yield changed
        now = _states()
        changed += [name for name, state in seeded.items() if not _same(now[name], state)]
    finally:
        _restore(states)


@contextmanager
def settings_kept() -> Iterator[list[str]]:
    """Settings of torch are as before afterwards; yields a list of those that were changed, filled at the end."""
    before = {name: get() for name, (get, _) in _SETTINGS.items()}
    changed: list[str] = []
    try:
        yield changed
    finally:
        for name, (get, put) in _SETTINGS.items():
            if get() != before[name]:
                changed.append(name)
                put(before[name])


def _cudnn() -> list[bool]:
    return [getattr(torch.backends.cudnn, name) for name in _CUDNN]


def _set_cudnn(values: Sequence[bool]) -> None:
    for name, value in zip(_CUDNN, values, strict=True):
        setattr(torch.backends.cudnn, name, value)


_SETTINGS: Mapping[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {
    "the gradient mode": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default floating-point type": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "torch's precision of float32": (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    "cuDNN's choice of algorithms": (_cudnn, _set_cudnn),
}


def _seed(seed: int) -> None:
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed)  # noqa: NPY002 - the global generator is what is checked
    random.seed(seed)


def _states() -> dict[str, Any]:
    """The states of the global generators of this process, by name."""
    cuda = {"torch's global generators of GPUs": torch.cuda.get_rng_state_all()} if torch.cuda.is_initialized() else {}
    return {
        "torch's global generator": torch.get_rng_state(),
        **cuda,
        "NumPy's global generator": np.random.get_state(),  # noqa: NPY002
        "Python's global generator": random.getstate(),
    }


def _restore(states: Mapping[str, Any]) -> None:
    torch_state, *cuda, numpy_state, python_state = states.values()
    torch.set_rng_state(torch_state)
    for states_of_gpus in cuda:
        torch.cuda.set_rng_state_all(states_of_gpus)
    np.random.set_state(numpy_state)  # noqa: NPY002
    random.setstate(python_state)


def _same(a: Any, b: Any) -> bool:
    """Whether two states are equal: tensors, arrays, or nested tuples of them and of numbers."""
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return torch.equal(a, b) if isinstance(a, Tensor) else bool(np.array_equal(a, b))


@contextmanager
def _shifted_clocks(seconds: float, namespaces: Sequence[MutableMapping[str, Any]]) -> Iterator[None]:
    """Clocks of module `time`, for this thread only, also where a namespace imported them by name."""
    thread = threading.get_ident()

    def shifted(clock: Callable[[], Any], unit: float) -> Callable[[], Any]:
        shift = type(clock())(seconds * unit)
        return lambda: clock() + (shift if threading.get_ident() == thread else 0)

    units = [(getattr(time, name + end), unit) for name in _CLOCKS for end, unit in (("", 1.0), ("_ns", 1e9))]
    clocks = {id(clock): shifted(clock, unit) for clock, unit in units}
    spaces: list[MutableMapping[str, Any]] = [vars(time), *namespaces]
    places = [(space, name, value) for space in spaces for name, value in space.items() if id(value) in clocks]
    for space, name, value in places:
        space[name] = clocks[id(value)]
    try:
        yield
    finally:
        for space, name, value in places:
            space[name] = value
