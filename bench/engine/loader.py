"""Make a cell's plugins and networks ready on a device: found, loaded, laid out, compiled; later cells share them."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import nn

from bench.engine.compute import PRECISIONS, CompileError, compile_now, prepare_network
from bench.engine.meter import CountedNetwork
from bench.errors import PurifyBenchError
from bench.plugins import registry as plugins
from bench.plugins.fingerprint import files_hash, network_hash
from bench.records import Cell


@dataclass
class Loaded:
    """The plugins and networks of a cell, ready to run.

    Attributes:
        start_s: seconds that it took to load, compile and warm up, by these names: no part of any block's cost.
    """

    purifier: Any
    networks: dict[str, CountedNetwork]
    classifier: Any
    start_s: dict[str, float] = field(default_factory=dict)


@dataclass
class Loader:
    """Loads on first use, on one device.

    Parameters:
        weights: role -> network, as `purifiers.nets.load` takes it.
        shape: of an image, `(C,H,W)`.
        plugin_files: kind -> plugin name -> path, for those that are given by path.
    """

    weights: Mapping[str, str]
    device: torch.device
    shape: tuple[int, ...]
    plugin_files: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _denoisers: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    _classifiers: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    _start_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def load(self, cell: Cell) -> Loaded:
        """What a cell needs.

        Raises:
            LoadError: it cannot be had, cannot be compiled, or is not what the cell was planned for.
        """
        self._start_s.clear()
        with self._timed("load_s"):
            purifier = self._plugin(cell, plugins.PURIFIER, cell.purifier, cell.parameters)
            networks = {role: CountedNetwork(self.denoiser(role, cell)) for role in purifier.networks}
            classifier = self.classifier(cell)
        self._start_s["load_s"] -= self._start_s.get("compile_s", 0.0)
        return Loaded(purifier, networks, classifier, dict(self._start_s))

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._start_s[what] += time.perf_counter() - started

    def _plugin(self, cell: Cell, kind: plugins.Kind, name: str, parameters: Mapping[str, object]) -> Any:
        try:
            plugin = plugins.create(kind, self.plugin_files.get(kind.name, {}).get(name, name), parameters)
        except plugins.PluginError as error:
            raise LoadError(str(error)) from error
        now = plugins.code_hash(type(plugin))
        if now != cell.hashes.get(kind.name, now):
            raise LoadError(f"the code of {kind.name} {name!r} changed since this run was planned; run it again")
        return plugin

    def denoiser(self, role: str, cell: Cell) -> Any:
        """The network of a role, computing as the cell asks."""
        asked = role, cell.precision, as_text(cell.compute)
        if asked not in self._denoisers:
            denoiser = self._read_network(role, cell)
            denoiser.compute_in(PRECISIONS[cell.precision])
            denoiser.network = prepare_network(denoiser.network, cell.compute, self.device)
            self._compile(f"network {role!r}", cell, lambda x: denoiser(x, denoiser.t_max))
            self._denoisers[asked] = denoiser
        return self._denoisers[asked]

    def classifier(self, cell: Cell) -> Any:
        """The classifier's logits function; the last one stays loaded."""
        asked = cell.classifier, as_text(cell.classifier_parameters), as_text(cell.compute)
        if asked not in self._classifiers:
            loaded = self._read_classifier(cell)
            loaded = prepare_classifier(loaded, cell.compute, self.device)
            if isinstance(loaded, nn.Module):  # a plain function stays what it is
                self._compile(f"classifier {cell.classifier!r}", cell, loaded)
            self._classifiers = {asked: loaded}
        return self._classifiers[asked]

    def _read_network(self, role: str, cell: Cell) -> Any:
        from purifiers.nets import load
        from purifiers.nets.hub.cards import WeightsError

        network = self.weights[role]
        try:
            denoiser = own_memory(load(network, device=str(self.device)))
            refuse_changed(cell, f"network {role!r} ({network})", f"network {role}", network_hash(network))
        except (WeightsError, OSError) as error:
            raise LoadError(f"network {role!r}: {error}") from error
        return denoiser

    def _read_classifier(self, cell: Cell) -> Any:
        classifier = self._plugin(cell, plugins.CLASSIFIER, cell.classifier, cell.classifier_parameters)
        try:
            loaded = own_memory(classifier.load(str(self.device)))
            files = classifier.files(download=False)
            refuse_changed(cell, f"classifier {cell.classifier!r}", "classifier weights", files_hash(files))
        except LoadError:
            raise
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            raise LoadError(f"classifier {cell.classifier!r} cannot be loaded ({problem})") from error
        return loaded

    def _compile(self, what: str, cell: Cell, call: Any) -> None:
        if "compile" not in cell.compute:
            return
        try:
            with self._timed("compile_s"):
                compile_now(call, torch.zeros(1, *self.shape, device=self.device))
        except CompileError as error:
            raise LoadError(f"{what}: {error}") from error


def prepare_classifier(loaded: Any, compute: Mapping[str, Any], device: torch.device) -> Any:
    """A classifier laid out and compiled: the network that it holds as `network`, or else the module that it is."""
    inner = getattr(loaded, "network", None)
    if isinstance(loaded, nn.Module) and isinstance(inner, nn.Module):
        loaded.network = prepare_network(inner, compute, device)
        return loaded
    return prepare_network(loaded, compute, device) if isinstance(loaded, nn.Module) else loaded


def as_text(options: Mapping[str, Any]) -> str:
    return json.dumps(dict(options), sort_keys=True)


class LoadError(PurifyBenchError, RuntimeError):
    """A plugin or a network of a cell cannot be made ready; the message names it and the remedy."""


def own_memory(loaded: Any) -> Any:
    """A network whose weights lie in memory of its own; others than modules of torch are left as they are.

    Loaders map files of safetensors into memory: who overwrites such a file changes the weights of a running network.
    """
    if isinstance(loaded, nn.Module):
        for tensor in chain(loaded.parameters(), loaded.buffers()):
            if tensor.device.type == "cpu":
                with torch.inference_mode(tensor.is_inference()):  # or nobody else could use what was made here
                    tensor.data = tensor.data.clone()
    return loaded


def refuse_changed(cell: Cell, what: str, name: str, now: str) -> None:
    """Raise LoadError where a file that was just loaded is not the one of the cell's identity.

    Files are hashed after they are read, so a change while they were read is noticed as well.

    Parameters:
        name: of the hash in the cell's identity; now: what it is.
    """
    if now != cell.hashes.get(name, now):
        raise LoadError(
            f"{what} changed since this run was planned. What was counted before is stored; run it again for counts of "
            "what is there now"
        )
