"""What trackers are told of a run: its progress while it counts, and every figure of its summary at the end."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from typing import Any

from bench.errors import InputError
from bench.records import Cell, Counts
from bench.summary import Summary
from bench.trackers.background import Background, Sink
from bench.trackers.base import Callback

PROJECT = "purifybench"
_EVERY = 5.0  # seconds between two reports of progress
_FIGURES = re.compile(r"acc(_low|_high)?@.+|acr(_low|_high)?|abstained|nfe|ms_purify|ms_joint|gflops|images")
_SIGNS = re.compile(r"[^\w./ -]+", re.ASCII)  # that MLflow refuses in names
_LONGEST = 200  # characters of the name of a row, and of a parameter
_MOST = 500  # metrics in one call; MLflow takes 1,000


class _MLflow:
    """MLflow's fluent interface: a run of the experiment `purifybench`."""

    def __init__(self, module: str, name: str, config: Mapping[str, Any]):
        self._mlflow = import_module(module)
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run(run_name=name)
        self._mlflow.log_params({key: str(value)[:_LONGEST] for key, value in config.items()})

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._mlflow.log_metrics(dict(metrics), step=step)

    def finish(self, ended: bool) -> None:
        self._mlflow.end_run("FINISHED" if ended else "KILLED")


class _WeightsAndBiases:
    """The interface of Weights & Biases, which trackio has, too: a run of the project `purifybench`."""

    def __init__(self, module: str, name: str, config: Mapping[str, Any]):
        self._run = import_module(module).init(project=PROJECT, name=name, config=dict(config))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._run.log(dict(metrics), step=step)

    def finish(self, ended: bool) -> None:
        self._run.log({"ended": float(ended)})
        self._run.finish()


_SINKS: dict[str, Callable[[str, str, Mapping[str, Any]], Sink]] = {
    "mlflow": _MLflow,
    "wandb": _WeightsAndBiases,
    "trackio": _WeightsAndBiases,
}
NAMES = tuple(_SINKS)


def tracker(name: str, run: str, config: Mapping[str, Any]) -> Callback:
    """The callback that tells an experiment tracker about a run; where and as whom, the tracker's own settings say.

    Parameters:
        name: mlflow, wandb or trackio.
        run: the name of the run there.
        config: facts of the run, such as the fields of its preset.

    Raises:
        InputError: there is no such tracker, or its library is not installed.
    """
    if name not in _SINKS:
        raise InputError(f"there is no tracker {name!r}; there are: {', '.join(NAMES)}")
    if find_spec(name) is None:
        raise InputError(f"{name} is not installed: `pip install {name}`, or leave out the tracker")
    return Progress(Background(partial(_SINKS[name], name, run, config), name), name)


class Progress(Callback):
    """Tells a sink the sums of the counted blocks, at most every few seconds and with each cell, and the figures.

    Names of metrics: `progress/draws`, and `sigma 0.5/onestep-edm/acc_0.5` with the columns of `Run.table`.
    """

    def __init__(self, sink: Sink, name: str, every: float = _EVERY):
        self.name, self._sink, self._every = name, sink, every
        self._sums = dict.fromkeys(("blocks", "draws", "evaluations", "cells", "failed"), 0.0)
        self._begun = self._told = time.monotonic()

    def on_block(self, cell: Cell, counts: Counts) -> None:
        self._add(blocks=1, draws=counts.block.draws, evaluations=counts.cost.nfe)
        if time.monotonic() - self._told >= self._every:
            self._tell()

    def on_cell(self, cell: Cell, error: str | None) -> None:
        self._add(cells=1, failed=error is not None)
        self._tell()

    def on_end(self, summary: Summary | None) -> None:
        self._tell()
        for part in batched(figures_of(summary) if summary else ()):
            self._sink.log(part, step=self._step + 1)
        self._sink.finish(summary is not None)

    @property
    def _step(self) -> int:
        return int(self._sums["blocks"] + self._sums["cells"])

    def _add(self, **more: float) -> None:
        for name, number in more.items():
            self._sums[name] += number

    def _tell(self) -> None:
        self._told = time.monotonic()
        rate = self._sums["draws"] / max(self._told - self._begun, 1e-9)
        metrics = {f"progress/{name}": number for name, number in self._sums.items()}
        self._sink.log({**metrics, "progress/draws_per_second": rate}, step=self._step)


def batched(figures: Iterable[tuple[str, float]]) -> Iterator[dict[str, float]]:
    """The figures in parts of a size that MLflow takes."""
    rest = iter(figures)
    while part := dict(islice(rest, _MOST)):
        yield part


def figures_of(summary: Summary) -> Iterator[tuple[str, float]]:
    """Names and values of all known figures of a summary; a name that two rows share is numbered."""
    seen: dict[str, int] = {}
    columns = [column for column in summary.table if _FIGURES.fullmatch(column)]
    for row in summary.table.to_dict("records"):
        place = _SIGNS.sub("_", f"sigma {row['sigma']:g}/{row['name']}".replace("[", "of ").replace("]", ""))[:_LONGEST]
        seen[place] = seen.get(place, 0) + 1
        place += f" {seen[place]}" if seen[place] > 1 else ""
        for column in columns:
            if math.isfinite(value := float(row[column])):
                yield f"{place}/{_SIGNS.sub('_', column)}", value
