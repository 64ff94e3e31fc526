"""Terminal tables: the figures of runs, candidates, gains over a baseline, changes between two runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from bench.api.answers import LEVEL, number
from bench.api.grid import figure_table
from bench.records import COUNTED
from bench.summary.format import p_text, percent

if TYPE_CHECKING:
    import pandas as pd

    from bench.summary import Summary


def results_table(summary: Summary) -> Table:
    """Certified accuracy at the radii, ACR, abstention, NFE and milliseconds, by sigma and purifier."""
    from bench.summary.rows import named

    rows = named(summary)
    columns = ("σ", "purifier", *(f"≥{radius:g}" for radius in summary.radii), "ACR", "abst.", "NFE", "ms", "images")
    caption = "\n".join([*(f"by {rule}" for rule in rows["rule"].drop_duplicates()), *summary.notes])
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
