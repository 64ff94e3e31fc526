"""Load the plugins and networks of a cell on a device, in the layout and precision of the cell."""

from __future__ import annotations

import copy
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from bench.engine.arithmetic import PRECISIONS
from bench.engine.compute import CLASSIFIER, FixedRows, compute_of, prepare_network
from bench.engine.devices import synchronize
from bench.engine.meter import CountedNetwork
from bench.errors import PurifyBenchError
from bench.files import without_advice
from bench.plugins import plugin_hash
from bench.plugins import registry as plugins
from bench.records import Cell

_OWN = ("folder", "parquet")  # data sets of the user's own images, which can be saved in another way


class LoadError(PurifyBenchError, RuntimeError):
    """A plugin or a network of a cell cannot be loaded or compiled; the message names it and the remedy."""


@dataclass
class Loaded:
    """The plugins and networks of a cell, ready to run.

    Attributes:
        classifier_network: the network in the classifier, which counts its rows.
        start_s: seconds of loading, compiling and warming up, by name; they are not part of any block's cost.
    """

    purifier: Any
    networks: dict[str, CountedNetwork]
    classifier: Any
    classifier_network: FixedRows
    start_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Loader:
    """Loads plugins and networks on first use, on one device; cells share networks and classifiers.

    Parameters:
        weights: role -> network, as `purifiers.nets.load` takes it.
        shape: of an image, `(C,H,W)`.
        plugin_files: kind -> plugin name -> path, of plugins named by path.
    """

    weights: Mapping[str, str]
    device: torch.device
    shape: tuple[int, ...]
    plugin_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _denoisers: dict[tuple[str, ...], Any] = field(default_factory=dict)
    _classifiers: dict[tuple[str, ...], FixedRows] = field(default_factory=dict)
    _start_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def load(self, cell: Cell) -> Loaded:
        """The plugins and networks of a cell.

        Raises:
            LoadError: one is missing, cannot be compiled, or changed since the cell was planned.
        """
        self._start_s.clear()
        with self._timed("load_s"):
            purifier = self._plugin(cell, plugins.PURIFIER, cell.purifier, cell.parameters)
            networks = {role: CountedNetwork(self.denoiser(role, cell)) for role in purifier.networks}
            classifier = self.classifier(cell)
        self._start_s["load_s"] -= self._start_s.get("compile_s", 0.0)
        return Loaded(purifier, networks, classifier, classifier, dict(self._start_s))

    def unloaded(self) -> Loader:
        """A loader of the same plugins and networks that has loaded nothing yet."""
        other = copy.copy(self)
        other._denoisers, other._classifiers, other._start_s = {}, {}, defaultdict(float)
        return other

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._start_s[name] += time.perf_counter() - started

    def _plugin(self, cell: Cell, kind: plugins.Kind, name: str, parameters: Mapping[str, object]) -> Any:
        try:
            plugin = plugins.create(kind, self.plugin_files.get(kind.name, {}).get(name, name), parameters)
        except plugins.PluginError as error:
            raise LoadError(str(error)) from error
        _refuse_changed(cell, f"the code of {kind.name} {name!r}", kind.name, plugin_hash(type(plugin)))
        return plugin

    def denoiser(self, role: str, cell: Cell) -> Any:
        """The network of a role, in the precision and layout that the cell has for it."""
        compute = compute_of(cell, role)
        key = role, cell.precision, _text(compute)
        if key not in self._denoisers:
            denoiser = self._read_network(role, cell)
            denoiser.compute_in(PRECISIONS[compute["precision"]])
            denoiser.network = prepare_network(denoiser.network, compute, self.device, cell.precision)
            self._compile(f"network {role!r}", compute, lambda x: denoiser(x, denoiser.t_max))
            self._denoisers[key] = denoiser
        return self._denoisers[key]

    def classifier(self, cell: Cell) -> FixedRows:
        """The classifier as a function of images, which counts its network's rows."""
        compute = compute_of(cell, CLASSIFIER)
        key = cell.classifier, _text(cell.classifier_parameters), _text(compute)
        if key not in self._classifiers:
            prepared = _prepare_classifier(self._read_classifier(cell), compute, self.device)
            self._compile(f"classifier {cell.classifier!r}", compute, prepared)
            self._classifiers[key] = prepared
        return self._classifiers[key]

    def _read_network(self, role: str, cell: Cell) -> Any:
        from purifiers.nets import load
        from purifiers.nets.hub.cards import WeightsError
        from purifiers.nets.hub.sources import find

        network = self.weights[role]
        try:
            denoiser = _in_own_memory(load(network, device=str(self.device)))
            _refuse_changed(cell, f"network {role!r} ({network})", f"network {role}", find(network).identity())
        except (WeightsError, OSError) as error:
            raise LoadError(f"network {role!r}: {error}") from error
        _refuse_other_images(cell, f"network {role!r} ({network})", denoiser.network, self.shape)
        return denoiser

    def _read_classifier(self, cell: Cell) -> Any:
        classifier = self._plugin(cell, plugins.CLASSIFIER, cell.classifier, cell.classifier_parameters)
        try:
            loaded, identity = _in_own_memory(classifier.load(str(self.device))), classifier.identity()
        except Exception as error:
            problem = f"{type(error).__name__}: {without_advice(str(error))}"
            raise LoadError(f"classifier {cell.classifier!r} cannot be loaded ({problem})") from error
        _refuse_changed(cell, f"classifier {cell.classifier!r}", "classifier weights", identity)
        _refuse_other_images(cell, f"classifier {cell.classifier_text!r}", loaded, self.shape)
        return loaded

    def _compile(self, subject: str, compute: Mapping[str, Any], call: Callable[[Tensor], Any]) -> None:
        """Make a first call, which compiles; raises LoadError if torch cannot compile on this machine."""
        if "compile" not in compute:
            return
        try:
            with self._timed("compile_s"), warnings.catch_warnings():
                # The compiler warns about diffusers' own caches, once for every network; users cannot act on it.
                warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`", UserWarning)
                call(torch.zeros(1, *self.shape, device=self.device))
                synchronize(self.device)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            problem = str(error).strip().partition("\n")[0]
            raise LoadError(
                f"{subject}: torch.compile failed ({type(error).__name__}: {problem}). It needs a C++ compiler on a "
                "CPU and Triton on a GPU: install them, or give --compile no"
            ) from error


def _prepare_classifier(loaded: Any, compute: Mapping[str, Any], device: torch.device) -> FixedRows:
    """A classifier that sees a fixed number of rows, with its preprocessing, so that no row depends on the batch.

    Its network, the attribute `network` or else the whole classifier, is compiled and has its rows counted.
    """
    inner = getattr(loaded, "network", None)
    if isinstance(loaded, nn.Module) and isinstance(inner, nn.Module):
        loaded.network = prepare_network(inner, compute, device)
        return FixedRows(loaded, loaded.network.size, inner=loaded.network)
    return prepare_network(loaded, compute, device)


def _text(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(options), sort_keys=True)


def _in_own_memory(loaded: Any) -> Any:
    """The module with its weights copied into memory; other objects are returned unchanged.

    safetensors are mapped into memory, so overwriting the file would change the weights of a running network.
    """
    if isinstance(loaded, nn.Module):
        for tensor in chain(loaded.parameters(), loaded.buffers()):
            if tensor.device.type == "cpu":
                with torch.inference_mode(tensor.is_inference()):  # keep the tensor's mode
                    tensor.data = tensor.data.clone()
    return loaded


def _refuse_changed(cell: Cell, subject: str, name: str, current: str) -> None:
    """Verify a loaded plugin or file against the planned hash `name` of the cell; raises LoadError if it differs.

    Call it after reading, so that a change during the reading is detected.
    """
    if current != cell.hashes.get(name, current):
        raise LoadError(
            f"{subject} changed since this run was planned. Counts made before are stored; run the command again "
            "to count with the present one"
        )


def _refuse_other_images(cell: Cell, subject: str, network: Any, shape: tuple[int, ...]) -> None:
    """Raise LoadError if a network says that it is for images of another number of channels, or of another size.

    Many networks accept another size without an error, and are much worse there.

    Parameters:
        network: its attribute `images`, if it has one, holds the number of channels, and the side in pixels or None.
        shape: of the images, `(C,H,W)`.
    """
    channels, side = getattr(network, "images", None) or (shape[0], None)
    if (channels, side or shape[1], side or shape[2]) == shape:
        return
    own = cell.dataset in _OWN
    maker = "`bench train` makes them of your own images" if own else "`bench list` shows the bundled ones"
    remedy = f"name one of {'x'.join(map(str, shape))} ({maker})"
    changes = []
    if channels != shape[0]:
        changes.append(f"save the images {'as greyscale files' if channels == 1 else 'in colour'}")
    if side and shape[1:] != (side, side):
        changes.append(f"cut and scale your images by `--size {side}`")
    if own and changes:
        remedy += f", or {', and '.join(changes)}"
    wanted = f"{channels}x{side}x{side}" if side else f"{channels} channel{'' if channels == 1 else 's'}"
    raise LoadError(
        f"{subject} is for images of {wanted}, and those of the data set {cell.dataset!r} are "
        f"{'x'.join(map(str, shape))} (channels x height x width): {remedy}"
    )
