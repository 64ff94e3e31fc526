"""Certify images with modules that are in memory, by the engine, the noise and the rules of `bench run`."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bench.certify import rules
from bench.data.split import Split
from bench.engine import Engine, Loader, LoadError, PluginFault
from bench.engine.devices import choose_devices, choose_precision, prepare_device
from bench.errors import InputError
from bench.executors import InProcess
from bench.plugins import registry as plugins
from bench.records import DISCRETE, Cell, Counts, Task
from bench.store import MANIFEST, Run, Store, export, read_run
from bench.store.database import DATABASE
from bench.sweep import Observer, Plan, Plugin, Preset, explain, manifest, settle_options, sweep
from bench.sweep.costs import COSTS, weigh_cells
from bench.sweep.plan import rows_of
from bench.sweep.trust import TRUST, check_plugins, evidence
from purifiers.base import Purifier
from purifiers.nets.denoisers import LevelledDenoiser, level_like

_NAME = "in-memory"  # of the run and of its data set


class _FunctionDenoiser(LevelledDenoiser):
    """A function `D(u, t)` as a denoiser: `u [B,C,H,W]`, `t [B]`.

    Its range of levels is that of the function's attributes `t_min` and `t_max`, or else EDM's, 0.002 to 80.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]):
        module = function if isinstance(function, nn.Module) else _Function(function)
        super().__init__(module, getattr(function, "t_min", 0.002), getattr(function, "t_max", 80.0))
        self.classes = None
        self.own_levels = getattr(function, "levels", None)

    def denoise(self, u: Tensor, t: float | Tensor, labels: int | Tensor | None = None) -> Tensor:
        return self.network(u.to(self.precision), level_like(t, u)).to(u.dtype)

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        return self.own_levels(t, steps, t_end) if self.own_levels else super().levels(t, steps, t_end)


class _Function(nn.Module):
    """A plain function as a module."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


class _MemoryLoader(Loader):
    """Takes the plugins and networks from memory; modules are copied, so the user's stay as they are."""

    def __init__(self, device: torch.device, shape: tuple[int, ...], purifier: Purifier, networks: Mapping[str, Any]):
        super().__init__({}, device, shape)
        self._purifier, self._networks = purifier, networks

    def _plugin(self, *_: Any) -> Any:
        return self._purifier

    def _read_network(self, role: str, cell: Cell) -> Any:
        network = self._networks[role]
        if isinstance(network, str | Path):
            from purifiers.nets import load
            from purifiers.nets.hub.cards import WeightsError
            from purifiers.nets.hub.download import obtain

            try:
                return load(str(obtain(network)), device=str(self.device))
            except (WeightsError, OSError) as error:
                raise LoadError(f"network {role!r}: {error}") from error
        return _own_copy(network if isinstance(network, LevelledDenoiser) else _FunctionDenoiser(network), self.device)

    def _read_classifier(self, cell: Cell) -> Any:
        return _own_copy(self._networks["classifier"], self.device)


def _own_copy(network: Any, device: torch.device) -> Any:
    """A module copied to a device, for inference; a plain function as it is."""
    if not isinstance(network, nn.Module):
        return network
    return copy.deepcopy(network).to(device).eval().requires_grad_(False)


class _Watched(InProcess):
    """Keeps the first error of a task, so that its cause and traceback reach the caller."""

    error: BaseException | None = None

    def submit(self, task: Task) -> Future[list[Counts]]:
        future = super().submit(task)
        self.error = self.error or future.exception()
        return future


def certify(
    classifier: Callable[[Tensor], Tensor],
    images: Tensor | np.ndarray,
    labels: Tensor | np.ndarray | Sequence[int],
    purifier: str | Purifier,
    networks: Mapping[str, Any],
    indices: Sequence[int] | None,
    out: Path | None,
    **fields: Any,
) -> Run:
    """See `bench.api.certify`; `fields` are those of a preset."""
    pixels, classes, numbers = _checked(images, labels, indices)
    preset = _preset_of(classifier, purifier, networks, len(pixels), fields)
    device = choose_devices(preset.device, 1)[0]
    preset = preset.model_copy(update={"precision": choose_precision(preset.precision, device)})
    plugin = preset.purifiers[0]
    method = plugins.create(plugins.PURIFIER, plugin.name, plugin.parameters) if isinstance(purifier, str) else purifier
    if missing := [role for role in method.networks if role not in networks]:
        raise InputError(f"purifier {method.name!r} needs networks={{{missing[0]!r}: ...}}, a denoiser D(u, t)")
    # A split in which an image is found by its own number, not by its position.
    by_number: Any = [dict(zip(numbers, values, strict=True)) for values in (pixels, classes)]
    split = Split(_NAME, by_number[0], by_number[1], classes=())
    planned = settle_options(_plan_of(preset, method, split, numbers, torch.device(device).type), device)
    with _process_settings_kept():
        ready = prepare_device(device)
        loader = _MemoryLoader(ready, pixels.shape[1:], method, {**networks, "classifier": classifier})
        engine = Engine(by_number[0], {}, ready, loader=loader)
        with _results_folder(out) as folder:
            return _counted(planned, _Watched(engine), folder, device, out is not None)


def _counted(planned: Plan, executor: _Watched, folder: Path, device: str, exported: bool) -> Run:
    """Count and store the votes of a plan; raises the plugin's error if its only cell fails."""
    with Store(folder) as store:
        record = manifest(planned, [device])
        unfinished = {cell.key for cell in planned.cells}
        trust = evidence(planned, {}, unfinished, lambda: store.describe(record))
        record[TRUST] = trust.record
        store.begin(planned.cells, record)
        check_plugins(planned, executor, unfinished, trust)
        record[COSTS] = weigh_cells(planned, executor, {}, lambda message: None)()
        trust.keep()
        facts = planned.certifier, planned.labels, store, executor, int(planned.preset.batch), Observer()
        outcome = sweep(planned.cells, *facts, check=lambda counts: _refuse_votes(planned, counts), trust=trust)
        if outcome.errors and executor.error is not None:
            raise executor.error
        if outcome.errors:
            raise PluginFault(*outcome.errors.values())
        run = read_run(folder)
    if exported:
        export(run)
    return run


@contextmanager
def _results_folder(out: Path | None) -> Iterator[Path]:
    """The folder of the counts: `out`, or one that is deleted at the end."""
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / _NAME
        return
    if any((out / name).exists() for name in (DATABASE, MANIFEST)):
        # Code in memory has no fingerprint, so nothing could tell whether it is the code of the stored counts.
        raise InputError(f"{out} holds a run already, which modules in memory cannot continue; give another out=")
    yield out


@contextmanager
def _process_settings_kept() -> Iterator[None]:
    """Give the process its threads and its arithmetic of float32 back at the end."""
    threads, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    tf32 = torch.backends.cudnn.allow_tf32
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.allow_tf32 = tf32
        torch.set_flush_denormal(False)


def _checked(
    images: Tensor | np.ndarray, labels: Tensor | np.ndarray | Sequence[int], indices: Sequence[int] | None
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Images `[N,C,H,W]` float32, labels `[N]` int64 and the number of each image; raises InputError."""
    pixels = np.asarray(images.detach().cpu() if isinstance(images, Tensor) else images, dtype=np.float32)
    classes = np.asarray(labels.detach().cpu() if isinstance(labels, Tensor) else labels)
    if pixels.ndim != 4 or not len(pixels):
        raise InputError(f"images must have the shape [N,C,H,W], got {list(pixels.shape)}")
    if not (np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1):
        raise InputError(f"images must lie in [0,1], got values from {pixels.min():g} to {pixels.max():g}")
    if classes.shape != (len(pixels),) or classes.dtype.kind not in "iu" or classes.min() < 0:
        raise InputError(f"labels must be {len(pixels)} whole numbers from 0 on, got {classes.dtype} {classes.shape}")
    numbers = list(range(len(pixels))) if indices is None else [int(i) for i in indices]
    if len(numbers) != len(pixels) or len(set(numbers)) < len(numbers) or min(numbers) < 0:
        raise InputError(f"indices must be {len(pixels)} different whole numbers from 0 on")
    return pixels, classes.astype(np.int64), numbers


def _preset_of(
    classifier: Any, purifier: str | Purifier, networks: Mapping[str, Any], count: int, fields: dict[str, Any]
) -> Preset:
    """The preset that the manifest records; raises InputError for a value that a preset refuses."""
    if isinstance(purifier, Purifier):
        purifier = Plugin(**{"name": purifier.name, **plugins.parameters(purifier)})  # type: ignore[assignment]
    named = {role: network if isinstance(network, str) else _NAME for role, network in networks.items()}
    kind = getattr(classifier, "__name__", type(classifier).__name__)
    try:
        return Preset(
            name=_NAME,
            title="In memory",
            dataset=_NAME,
            images=count,
            classifier=Plugin(name=kind),
            purifiers=[purifier],  # type: ignore[list-item]
            networks=named,
            workers=1,
            **fields,
        )
    except ValidationError as error:
        raise InputError("; ".join(map(explain, error.errors()))) from error


def _plan_of(preset: Preset, method: Any, split: Split, images: Sequence[int], device_type: str) -> Plan:
    """The plan of one cell, without fingerprints: code in memory has none."""
    sigma = preset.sigmas[0]
    identity = rules.of_sweep(preset.model_dump(), sigma).identity
    cell = Cell(
        purifier=method.name,
        parameters=plugins.parameters(method),
        classifier=preset.classifier.name,
        classifier_parameters={},
        dataset=_NAME,
        data_hash="",
        sigma=sigma,
        seed=preset.seed,
        noise=DISCRETE if preset.noise == DISCRETE else "",
        precision=preset.precision,
        device_type=device_type,
        compute=rows_of(preset, device_type),
        hashes={"rule": identity} if identity else {},
    )
    return Plan(preset, [cell], split, images, {}, {}, {method.name: method.family}, {})


def _refuse_votes(planned: Plan, counts: Sequence[Counts]) -> None:
    """Raise InputError if a label is not one of the classifier's classes."""
    classes, highest = len(counts[0].votes), max(planned.labels.values())
    if highest >= classes:
        raise InputError(f"the classifier has {classes} classes, and there is an image with the label {highest}")
