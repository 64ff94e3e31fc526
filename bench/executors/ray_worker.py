"""A Ray worker: an engine built from files that the driver sends, after a check of code and library versions."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from bench.engine import Engine, Examination, Loader, LoadError
from bench.engine.devices import device_name, prepare_device
from bench.engine.tuning.tune import TuningRequest, tune
from bench.errors import PurifyBenchError
from bench.executors.files import Bundle, Get, classifier_key
from bench.provenance import code_digest, library_versions
from bench.records import Cell, Counts, Shown, StaticCost, Task

Result = TypeVar("Result")
# Their versions may change counts, so workers must have the driver's.
_LIBRARIES = ("torch", "torchvision", "diffusers", "torchdiffeq", "transformers", "timm", "numpy")


class WorkerMismatch(PurifyBenchError, RuntimeError):
    """A machine has other code, libraries or files than the driver; the message names it and the remedy."""


def libraries() -> dict[str, str]:
    """The versions of the installed libraries that may change counts."""
    return library_versions(_LIBRARIES)


class RemoteEngine:
    """The Ray actor: an engine in a process that Ray started, often on another machine. It runs one task at a time."""

    def prepare(
        self,
        device: str,
        code: str,
        versions: Mapping[str, str],
        numbers: Sequence[int],
        images: np.ndarray,
        bundle: Bundle,
        get: Get,
    ) -> str:
        """Build the engine; returns the name of its device.

        Parameters:
            code, versions: the driver's `code_digest` and `libraries`.
            numbers, images: indices of the images, and the images `[M,C,H,W]` in [0,1].
            bundle, get: the files of networks, classifier and plugins, and the function that fetches their contents.

        Raises:
            WorkerMismatch: code or libraries differ from the driver's, or files cannot be unpacked here.
        """
        self._machine = f"the machine {platform.node()}"
        installed = libraries()
        differences = [
            f"{name} {installed.get(name) or 'missing'} (not {wanted})"
            for name, wanted in versions.items()
            if installed.get(name) != wanted
        ]
        if code_digest() != code:
            differences.append("other code of purifybench")
        if differences:
            raise WorkerMismatch(
                f"{self._machine} has {', '.join(differences)}; install the driver's versions on every machine"
            )
        try:
            weights, plugin_files, self._changed_parameters = bundle.unpack(get)
        except (LoadError, OSError) as error:
            raise WorkerMismatch(f"{self._machine}: {error}") from error
        by_index = dict(zip(numbers, images, strict=True))
        self._engine = Engine(by_index, weights, prepare_device(device), plugin_files)
        return device_name(self._engine.device)

    def run(self, task: Task) -> list[Counts]:
        """As `Engine.run`; a LoadError names the machine."""
        return self._with_machine_name(lambda: self._engine.run(Task(self._localised(task.cell), task.blocks)))

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Shown:
        """As `Engine.show`."""
        return self._with_machine_name(lambda: self._engine.show(self._localised(cell), images, draw))

    def examine(self, cell: Cell, plugin: str, rows: int) -> Examination:
        """As `Engine.examine`."""
        return self._with_machine_name(lambda: self._engine.examine(self._localised(cell), plugin, rows))

    def weigh(self, cells: Sequence[Cell]) -> list[StaticCost | str]:
        """As `Engine.weigh`."""
        return self._engine.weigh([self._localised(cell) for cell in cells])

    def measure(self, request: TuningRequest) -> dict[str, Any]:
        """As `bench.engine.tuning.tune`, with a loader of its own, so that its networks are released afterwards."""
        local = replace(request, cells=[self._localised(cell) for cell in request.cells])
        engine = self._engine
        loader = Loader(engine.weights, engine.device, request.images.shape[1:], engine.plugin_files)
        return self._with_machine_name(lambda: tune(local, loader))

    def _with_machine_name(self, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except LoadError as error:
            raise LoadError(f"{self._machine}: {error}") from error

    def _localised(self, cell: Cell) -> Cell:
        """The cell with the paths of this machine; its blocks keep the key of the driver's cell."""
        changed = self._changed_parameters.get(classifier_key(cell.classifier, cell.classifier_parameters), {})
        return replace(cell, classifier_parameters={**cell.classifier_parameters, **changed})
