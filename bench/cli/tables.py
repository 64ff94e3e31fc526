"""Terminal tables: the figures of runs, candidates, gains over a baseline, distances to clean images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from bench.api.answers import number
from bench.api.grid import figure_table
from bench.records import COUNTED
from bench.store.quality import KINDS, Metrics, Value
from bench.summary.format import p_text, percent
from bench.summary.statistics import LEVEL

if TYPE_CHECKING:
    import pandas as pd

    from bench.summary import Summary

_DISTANCES = (
    "lower is better; intervals: 95 %, bootstrap over images (metrics of whole sets have none); *: a network of this "
    "purifier was trained to lower this very distance"
)


def results_table(summary: Summary) -> Table:
    """Certified accuracy at the radii, ACR, abstention, NFE and milliseconds, by sigma and purifier."""
    from bench.summary.rows import named

    rows = named(summary)
    columns = ("σ", "purifier", *(f"≥{radius:g}" for radius in summary.radii), "ACR", "abst.", "NFE", "ms", "images")
    sound = [text for text in summary.evidence.values() if not any(note.endswith(text) for note in summary.notes)]
    caption = "\n".join([*(f"by {rule}" for rule in rows["rule"].drop_duplicates()), *sound, *summary.notes])
    table = figure_table(f"{summary.title}: certified accuracy (%) at L2 radii", columns, caption)
    for sigma, group in rows.groupby("sigma", sort=True):
        table.add_section()
        for _, row in group.iterrows():
            table.add_row(f"{sigma:g}", escape(row["series"]), *_figures(row, summary.radii))
    return table


def _figures(row: pd.Series, radii: Sequence[float]) -> list[str]:
    """The figures of one row as text; unknown ones are empty, such as radii that the draws cannot certify."""
    if not row["images"]:
        return ["" for _ in radii] + ["", "", "", "", "failed" if isinstance(row["error"], str) else "0"]
    accuracies = [number(100 * row[f"acc@{radius:g}"], ".1f") for radius in radii]
    ms = number(row["ms_purify"], ".2f") if row["source"] == COUNTED else ""
    abstained = percent(row["abstained"])
    return [*accuracies, number(row["acr"], ".3f"), abstained, number(row["nfe"], ".3g"), ms, f"{row['images']:.0f}"]


def gains_table(gains: pd.DataFrame, baseline: str | None, radius: float | None = None) -> Table:
    """Paired gains of average certified radius, or of certified accuracy at a radius."""
    quantity, form, scale, test = "ACR", "+.3f", 1, "paired bootstrap"
    if radius is not None:
        quantity, form, scale = f"Points of accuracy at r = {radius:g}", "+.1f", 100
        test = "Newcombe; p by McNemar's exact test"
    several = gains["run"].nunique() > 1
    table = figure_table(
        f"{quantity} gained over {baseline}, image by image",
        (*(["run"] if several else []), "σ", "purifier", "gain", "interval", "p", "images"),
        f"95 % intervals ({test}), p corrected for the whole table (Holm); * below 5 %; unfinished rows are left out",
    )
    for _, row in gains.iterrows():
        gain, low, high = (format(scale * row[name], form) for name in ("gain", "gain_low", "gain_high"))
        p = f"{p_text(row['p_holm'])}{' *' if row['p_holm'] < LEVEL else '  '}"
        values = gain, escape(f"[{low}, {high}]"), p, str(row["images"])
        run = [escape(row["run"])] if several else []
        table.add_row(*run, f"{row['sigma']:g}", escape(row["name"]), *values)
    return table


def metrics_table(metrics: Metrics, names: Mapping[str, str]) -> Table:
    """A row for each cell, a column for each metric.

    Parameters:
        names: display name by label of the cells.
    """
    shown = [name for name in KINDS if any(name in cell.values for cell in metrics.cells)]
    title = f"Distance of purified to clean images: {metrics.images} images, {metrics.draws} of their draws"
    table = figure_table(title, ("purifier", "σ", *(KINDS[name].head for name in shown)), _DISTANCES)
    for cell in metrics.cells:
        figures = [_words(cell.values.get(name)) + "*" * (name in cell.trained_on) for name in shown]
        table.add_row(escape(names[cell.label]), f"{cell.sigma:g}", *map(escape, figures))
    return table


def _words(value: Value | None) -> str:
    """`0.301 [0.29, 0.312]`; a dash if it was not measured."""
    if value is None:
        return "–"
    ends = "" if value.low is None or value.high is None else f" [{value.low:.3g}, {value.high:.3g}]"
    return f"{value.value:.3g}{ends}"
