"""Terminal tables: the figures of runs, candidates, gains over a baseline, distances to clean images."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table

from bench.analysis.gains import LOWER, MARKS
from bench.api.answers import number
from bench.api.grid import figure_table
from bench.records import COUNTED
from bench.store.quality import KINDS, Metrics, Value
from bench.summary.format import change_text, images_text, p_text, percent_interval
from bench.summary.notes import shared_times
from bench.summary.statistics import LEVEL

if TYPE_CHECKING:
    import pandas as pd

    from bench.summary import Summary

_DISTANCES = (
    "lower is better; intervals: 95 %, bootstrap over images (metrics of whole sets have none); *: a network of this "
    "purifier was trained to lower this very distance"
)


def summary_parts(summary: Summary) -> Iterator[str | Table]:
    """Each purifier at its best sigma, at every radius; every row; significant gains and losses; costs."""
    from bench.analysis import best_sigmas, gain_sentences, paired_gains
    from bench.analysis.best import ACR_READING, BEST_READING, MARKS_READING, acr_behind, behind_sentences
    from bench.analysis.references import worth_sentences

    best, gains, behind = best_sigmas(summary), paired_gains(summary), acr_behind(summary)
    for radius in dict.fromkeys(best["radius"]):
        yield _best_table(best[best["radius"] == radius], radius)
    if len(best):
        found = *gain_sentences(best, per="radius"), *behind_sentences(best, "radius"), *worth_sentences(summary, best)
        yield "\n".join((*BEST_READING, MARKS_READING, *found, ""))
    yield _results_table(summary, gains, behind)
    if len(gains) or len(behind):
        yield "\n".join((*ACR_READING, MARKS_READING, *gain_sentences(gains), *behind_sentences(behind), ""))
    yield _costs_table(summary)


def _best_table(best: pd.DataFrame, radius: float) -> Table:
    """The purifiers at one radius, each at its best sigma, the best first."""
    from bench.summary.names import series_of

    columns = ("purifier", "σ", "certified % [95 %]", "split-half", "gain [95 %]", "p", "behind [95 %]", "p", "NFE")
    title = f"Certified accuracy at radius {radius:g}, each purifier at its best σ"
    table = figure_table(title, columns, no_wrap=True, box=SIMPLE, collapse_padding=True)
    for name, (_, row) in zip(series_of(best), best.iterrows(), strict=True):
        accuracy = f"{100 * row['accuracy']:.1f} {percent_interval(row['low'], row['high'])}"
        gain = change_text(row["gain"], row["gain_low"], row["gain_high"]) if row["baseline"] else ""
        lower = LOWER if row["p_behind"] <= LEVEL else ""
        table.add_row(
            escape(name),
            f"{row['sigma']:g}",
            escape(accuracy),
            number(100 * row["split_half"], ".1f"),
            escape(gain),
            _p_marked(row["p_holm"], row["verdict"]),
            escape(change_text(row["behind"], row["behind_low"], row["behind_high"])) if row["p_behind"] >= 0 else "",
            _p_marked(row["p_behind"], lower),
            number(row["nfe"], ".3g"),
        )
    return table


def _p_marked(p: float, verdict: str) -> str:
    """A p-value with the mark of its verdict; empty if it is NaN."""
    return "" if math.isnan(p) else f"{p_text(p)}{MARKS[verdict] or ' '}"


def _results_table(summary: Summary, gains: pd.DataFrame, behind: pd.DataFrame) -> Table:
    """Certified accuracy at the radii, ACR and its gain, abstention, NFE and milliseconds, by sigma and purifier.

    Parameters:
        gains, behind: of `paired_gains` over the one step of the same network, and of `acr_behind`.
    """
    from bench.summary.rows import named

    rows = named(summary)
    radii = (f"≥{radius:g}" for radius in summary.radii)
    alike = rows["complete"].all() and rows["images"].nunique() == 1  # then their number stands in the title, for room
    columns = ("σ", "purifier", *radii, "ACR", "gain", "p", "abst.", "NFE", "ms", *([] if alike else ["images"]))
    sound = [text for text in summary.evidence.values() if not any(note.endswith(text) for note in summary.notes)]
    caption = "\n".join([*(f"by {rule}" for rule in rows["rule"].drop_duplicates()), *sound, *summary.notes])
    span = f", {images_text(rows['images'])}" if alike else ""
    title = f"{summary.title}: certified accuracy at L2 radii, abstention (%), at each σ{span}"
    table = figure_table(title, columns, caption, box=SIMPLE, collapse_padding=True)
    of_row = {(row["run"], row["cell"]): row for _, row in gains.iterrows()}
    lower = set(behind.loc[behind["p_behind"] <= LEVEL, ["run", "cell"]].itertuples(index=False, name=None))
    for sigma, group in rows.groupby("sigma", sort=True):
        table.add_section()
        for _, row in group.iterrows():
            key = row["run"], row["cell"]
            figures = _figures(row, summary.radii, MARKS[LOWER] if key in lower else "", of_row.get(key))
            table.add_row(f"{sigma:g}", escape(row["series"]), *figures[: len(columns) - 2])
    return table


def _figures(row: pd.Series, radii: Sequence[float], mark: str, gain: pd.Series | None) -> list[str]:
    """The figures of one row as text; unknown ones are empty, such as radii that the draws cannot certify."""
    if not row["images"]:
        return ["" for _ in radii] + [*[""] * 6, "failed" if isinstance(row["error"], str) else "0"]
    accuracies = [number(100 * row[f"acc@{radius:g}"], ".1f") for radius in radii]
    ms = number(row["ms_purify"], ".2f") if row["source"] == COUNTED else ""
    acr = f"{number(row['acr'], '.3f')}{mark or ' '}"
    gained = ["", ""]
    if gain is not None:
        words = change_text(gain["gain"], gain["gain_low"], gain["gain_high"], "+.3f")
        words = re.sub(r"(?<!\d)0\.", ".", words)  # for room
        gained = [escape(words), _p_marked(gain["p_holm"], gain["verdict"])]
    abstained = number(100 * row["abstained"], ".1f")
    return [*accuracies, acr, *gained, abstained, number(row["nfe"], ".3g"), ms, f"{row['images']:.0f}"]


_COST_COLUMNS = {  # head: column of the summary, factor, format
    "NFE": ("nfe", 1, ".3g"),
    "GFLOPs": ("gflops_purify", 1, ".3g"),
    "ms": ("ms_purify", 1, ".2f"),
    "GFLOPs per vote": ("gflops", 1, ".3g"),
    "ms per vote": ("ms_joint", 1, ".2f"),
    "parameters, 10⁶": ("network_parameters", 1e-6, ".3g"),
    "peak GiB": ("peak_bytes", 2**-30, ".2f"),
}


def _costs_table(summary: Summary) -> Table:
    """What one purified image and one vote cost; of equal figures at several sigma, one line."""
    from bench.summary.rows import named

    rows = named(summary)
    rows = rows[rows["nfe"].notna()]
    reading = "Per purified image; per vote: with the classifier. Peak: of a process (CPU) or the device (GPU), so far."
    classifier = {f"{number(n, ',.0f')} parameters" for n in rows["classifier_parameters"].dropna()}
    named_classifier = f"Classifier: {' or '.join(sorted(classifier))}." if classifier else ""
    caption = "\n".join(filter(None, (reading, named_classifier, shared_times(rows))))
    shown = {head: column for head, column in _COST_COLUMNS.items() if rows[column[0]].notna().any()}
    table = figure_table("Cost", ("purifier", "σ", *shown), caption, box=SIMPLE, collapse_padding=True)
    lines: dict[tuple[str, ...], list[str]] = {}
    for _, row in rows.iterrows():
        figures = (number(scale * row[name], form) for name, scale, form in shown.values())
        lines.setdefault((row["series"], *figures), []).append(f"{row['sigma']:g}")
    for (name, *texts), sigmas in lines.items():
        table.add_row(escape(name), ", ".join(sigmas), *texts)
    return table


def gains_table(gains: pd.DataFrame, baseline: str | None, radius: float | None = None) -> Table:
    """Paired gains of average certified radius, or of certified accuracy at a radius."""
    quantity, form, scale, test = "ACR", "+.3f", 1, "paired bootstrap"
    if radius is not None:
        quantity, form, scale = f"Points of accuracy at r = {radius:g}", "+.1f", 100
        test = "Newcombe; p by McNemar's exact test"
    several = gains["run"].nunique() > 1
    caption = (
        f"95 % intervals ({test}), p corrected for the whole table (Holm); ↑: significantly higher; ↓: significantly "
        "lower (5 %); unfinished rows are left out"
    )
    columns = (*(["run"] if several else []), "σ", "purifier", "gain", "interval", "p", "images")
    table = figure_table(f"{quantity} gained over {baseline}, image by image", columns, caption)
    for _, row in gains.iterrows():
        gain, low, high = (format(scale * row[name], form) for name in ("gain", "gain_low", "gain_high"))
        values = gain, escape(f"[{low}, {high}]"), _p_marked(row["p_holm"], row["verdict"]), str(row["images"])
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
