"""A worker on another machine: an engine that is made of what travels, and tells whether its machine is fit for it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import numpy as np

from bench.engine.autotune import TuningRequest, tune
from bench.engine.devices import device_name, prepare_device
from bench.engine.engine import Engine, LoadError
from bench.engine.loader import Loader
from bench.errors import PurifyBenchError
from bench.executors.files import Get, Luggage
from bench.provenance import code_digest
from bench.records import Cell, Counts, Shown, Task

Result = TypeVar("Result")
LIBRARIES = ("torch", "torchvision", "diffusers", "torchdiffeq", "transformers", "timm", "numpy")  # decide counts


class Unfit(PurifyBenchError, RuntimeError):
    """A machine would not count what the driver counts; the message names it and the remedy."""


def libraries() -> dict[str, str | None]:
    """The versions here of the libraries that decide what networks compute; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


class RemoteEngine:
    """An engine in a process that somebody else started, perhaps on another machine. One task at a time."""

    def prepare(
        self,
        device: str,
        code: str,
        versions: Mapping[str, str | None],
        numbers: Sequence[int],
        images: np.ndarray,
        luggage: Luggage,
        get: Get,
    ) -> str:
        """Make the engine; returns the name of the device that it runs on.

        Parameters:
            code, versions: the driver's `code_digest` and `libraries`.
            numbers, images: indices of the images, and the images `[M,C,H,W]` in [0,1].
            get: what fetches a file's content.

        Raises:
            Unfit: code or libraries are not the driver's, or files cannot be had here.
        """
        self._where = f"the machine {platform.node()}"
        here = libraries()
        other = [f"{k} {here.get(k) or 'missing'} (not {v})" for k, v in versions.items() if v and here.get(k) != v]
        if code_digest() != code:
            other.append("other code of purifybench")
        if other:
            raise Unfit(f"{self._where} has {', '.join(other)}; install on every machine what the driver has")
        try:
            weights, plugin_files, self._moved = luggage.unpack(get)
        except (LoadError, OSError) as error:
            raise Unfit(f"{self._where}: {error}") from error
        by_number = dict(zip(numbers, images, strict=True))
        self._engine = Engine(by_number, weights, prepare_device(device), plugin_files)
        return device_name(self._engine.device)

    def run(self, task: Task) -> list[Counts]:
        """As `Engine.run`; errors name the machine where loading failed."""
        return self._named(lambda: self._engine.run(Task(self._here(task.cell), task.blocks)))

    def show(self, cell: Cell, images: Sequence[int], draw: int = 0) -> Shown:
        """As `Engine.show`."""
        return self._named(lambda: self._engine.show(self._here(cell), images, draw))

    def measure(self, question: TuningRequest) -> dict[str, Any]:
        """As `autotune.tune`; its networks are let go of afterwards."""
        here = replace(question, cells=[self._here(cell) for cell in question.cells])
        engine = self._engine
        loader = Loader(engine.weights, engine.device, question.images.shape[1:], engine.plugin_files)
        return self._named(lambda: tune(here, loader))

    def _named(self, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except LoadError as error:
            raise LoadError(f"{self._where}: {error}") from error

    def _here(self, cell: Cell) -> Cell:
        """The cell with the paths of this machine; its blocks keep the key that the driver gave them."""
        return replace(cell, classifier_parameters={**cell.classifier_parameters, **self._moved})
