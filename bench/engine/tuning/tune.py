"""Choose how a sweep computes: measure which way is fastest for each network on a device, and keep the measurements.

A way qualifies only if the network's output stays within a tolerance of that in float32. Compilation qualifies only if
it saves more of the sweep's time than it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from bench.engine.checks import out_of_memory
from bench.engine.devices import device_name
from bench.engine.loader import Loader, LoadError
from bench.engine.tuning import cache as tuning_cache
from bench.engine.tuning.search import AUTO as AUTO
from bench.engine.tuning.search import Search
from bench.engine.tuning.trials import Trials
from bench.records import Cell

_Notify = Callable[[str], object]


@dataclass(frozen=True)
class TuningRequest:
    """The options of a sweep, some of them `auto`, with the cells and images for measuring on any device.

    Attributes:
        options: `precision`, `channels_last`, `compile`, `rows`, `batch`, the precision of the `classifier` (None: it
            has no such parameter), and `compute`: options of single networks.
        cells: of the sweep; the classifier of the first one is measured, and stands for all of them.
        images: `[M,C,H,W]` in [0,1], some images of the sweep.
        rows: role, or `classifier` -> rows that one worker evaluates in the sweep, about; empty: unknown, and many.
    """

    options: Mapping[str, Any]
    cells: Sequence[Cell]
    images: np.ndarray
    rows: Mapping[str, float] = field(default_factory=dict)

    @property
    def sigmas(self) -> list[float]:
        """The lowest and the highest."""
        sigmas = [cell.sigma for cell in self.cells]
        return [min(sigmas), max(sigmas)]

    def subject(self, device: str) -> dict[str, Any]:
        """All facts on which a measurement depends; `device` is the name of the device."""
        hashes = {k: v for cell in self.cells for k, v in cell.hashes.items() if k not in ("purifier", "rule")}
        versions = {k: v for cell in self.cells for k, v in cell.versions.items() if k != "noise"}
        parameters = self.cells[0].classifier_parameters
        return {
            "device": device,
            "torch": torch.__version__,
            "image": list(self.images.shape[1:]),
            "sigmas": self.sigmas,
            "classifier": {k: v for k, v in parameters.items() if k not in ("path", "precision")},
            "hashes": hashes,
            "versions": versions,
        }

    def facts(self, device: str) -> dict[str, Any]:
        """All facts on which a choice depends."""
        return {"options": dict(self.options), "rows": dict(self.rows), **self.subject(device)}

    def trials(self, loader: Loader) -> Trials:
        """Trials of the networks of the sweep."""
        prefix = "network "
        roles = {name.removeprefix(prefix): c for c in self.cells for name in c.hashes if name.startswith(prefix)}
        return Trials(loader, roles, self.cells[0], sorted(set(self.sigmas)), self.images)


def tune(request: TuningRequest, loader: Loader, notify: _Notify = lambda _: None) -> dict[str, Any]:
    """How the sweep computes fastest: `chosen`, `batch`, `device` and the measurements, as JSON.

    Measurements come from the user's cache, or are made now and kept, each when it is made.

    Parameters:
        loader: of the device.
        notify: called with a message before each measurement.

    Raises:
        LoadError: a network cannot be loaded, cannot be compiled though the options ask for it, or does not fit into
            memory.
    """
    device = device_name(loader.device)
    facts = request.subject(device)
    known = tuning_cache.recall(facts) or {}
    if known:
        measured = known.get("measured", {}).get("date", "another day")
        notify(f"uses speeds measured on {measured}; to measure again, delete {tuning_cache.place(facts)}")
    tuner = Search(
        request.options, request.rows, request.trials(loader), notify, partial(tuning_cache.remember, facts), known
    )
    try:
        return {"device": device, **tuner.choose()}
    except Exception as error:
        if not out_of_memory(error):
            raise
        raise LoadError("the networks do not fit into memory; give fewer --rows, or fewer --workers") from error


def measurements(result: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a result of `tune` that does not depend on the options and the length of a sweep."""
    return {name: result[name] for name in ("measured", "rates", "ways") if name in result}
