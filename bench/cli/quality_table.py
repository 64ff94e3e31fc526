"""Terminal table of the quality of purification."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from bench.api.grid import figure_table
from bench.store.quality import KINDS, Metrics, Value

_READING = (
    "lower is better; intervals: 95 %, bootstrap over images (metrics of whole sets have none); *: a network of this "
    "purifier was trained to lower this very distance"
)


def metrics_table(metrics: Metrics, names: Mapping[str, str]) -> Table:
    """A row for each cell, a column for each metric.

    Parameters:
        names: display name by label of the cells.
    """
    shown = [name for name in KINDS if any(name in cell.values for cell in metrics.cells)]
    title = f"Distance of purified to clean images: {metrics.images} images, {metrics.draws} of their draws"
    table = figure_table(title, ("purifier", "σ", *(KINDS[name].head for name in shown)), _READING)
    for cell in metrics.cells:
        figures = [_words(cell.values.get(name)) + "*" * (name in cell.trained_on) for name in shown]
        table.add_row(Text(names[cell.label]), f"{cell.sigma:g}", *(Text(figure) for figure in figures))
    return table


def _words(value: Value | None) -> str:
    """`0.301 [0.29, 0.312]`; a dash if it was not measured."""
    if value is None:
        return "–"
    ends = "" if value.low is None or value.high is None else f" [{value.low:.3g}, {value.high:.3g}]"
    return f"{value.value:.3g}{ends}"
