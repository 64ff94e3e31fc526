"""Summaries -> tables for a paper: rows purifiers, columns radii, the best marked, and those close to it. Pure.

Significance is judged on the images that the complete rows share: McNemar's exact test against the best of the column,
paired bootstrap for the ACR, both corrected for the best having been chosen on these images.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.errors import InputError
from bench.summary import COUNTED, Summary
from bench.summary.cells import accuracy_columns
from bench.summary.format import images_text, listed
from bench.summary.pairs import certified, certifiers_of, data_sets, part_of
from bench.summary.rows import named
from bench.summary.statistics import LEVEL, SPLITS, accuracy_difference, against_best, mean_differences, split_half

_PERCENT = "{:.1f}"
EPSILON = "ε = "


@dataclass(frozen=True)
class Entry:
    """A cell of a table.

    Attributes:
        text: not yet escaped.
        best: the highest of its column.
        close: not the highest, but not significantly lower.
    """

    text: str
    best: bool = False
    close: bool = False


_NONE = Entry("–")


@dataclass(frozen=True)
class PaperTable:
    """A table before it is written in some markup.

    Attributes:
        name: of its file, without an ending.
        caption: its content, in a sentence.
        head: titles of the columns.
        rows: a name, then an entry for each other column.
        notes: below it, a sentence each.
    """

    name: str
    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]


def tables(summary: Summary, sigmas: Sequence[float] | None = None) -> list[PaperTable]:
    """A table for each sigma, and for several sigmas two of the envelope over them.

    `envelope` reads the best sigma of each purifier and radius, chosen on the test set; `envelope-split-half` chooses
    it on one half of the images and reads it on the other.

    Parameters:
        sigmas: those to take, instead of all.

    Raises:
        ValueError: the summary does not have one of `sigmas`; the message lists those it has.
    """
    table = named(summary)
    known = sorted(table["sigma"].unique())
    for sigma in sigmas or ():
        if not any(math.isclose(sigma, k) for k in known):
            has = listed((f"{k:g}" for k in known), 20) or "none"
            raise InputError(f"there is no sigma {sigma:g} in these runs; there are: {has}")
    chosen = [k for k in known if sigmas is None or any(math.isclose(k, s) for s in sigmas)]
    rows = table[table["sigma"].isin(chosen)]
    several = [_over_sigmas(summary, rows, name) for name in _ENVELOPES] if len(chosen) > 1 else []
    return [_of_sigma(summary, rows[rows["sigma"] == sigma], sigma) for sigma in chosen] + several


def _of_sigma(summary: Summary, rows: pd.DataFrame, sigma: float) -> PaperTable:
    """The rows of one sigma: NFE, certified accuracy at every radius, ACR."""
    whole = rows[rows["complete"] & (rows["source"] == COUNTED)]
    shared, radii = certified(summary, whole)
    samples = dict(zip(whole.index, radii.T, strict=True)) if len(shared) else {}
    columns = []
    for radius in summary.radii:
        values = dict(rows[accuracy_columns(radius)[0]].dropna())
        columns.append(_marked(values, {key: r >= radius for key, r in samples.items() if key in values}))
    values = dict(rows["acr"].dropna())
    alike = rows["rule"].nunique() == 1
    columns.append(_marked(values, {k: np.maximum(r, 0.0) for k, r in samples.items()} if alike else {}, "{:.3f}"))
    names = {key: (row["name"], [row["nfe"]]) for key, row in rows.iterrows()}
    notes = (*_readings(summary, rows), *(() if alike else ("ACRs of different certifiers do not compare.",)))
    caption = f"Certified accuracy (%) at radius ε, σ = {sigma:g}."
    return PaperTable(f"sigma-{sigma:g}", caption, (*_head(summary), "ACR"), _lines(names, columns), notes)


def _head(summary: Summary) -> tuple[str, ...]:
    return "Purifier", "NFE", *(f"{EPSILON}{radius:g}" for radius in summary.radii)


def _lines(
    names: Mapping[Any, tuple[str, Iterable[float]]], columns: Sequence[Mapping[Any, Entry]]
) -> tuple[tuple[Entry, ...], ...]:
    """The rows of a table from their names and NFEs, and the entries of each column, by row."""
    return tuple(
        (Entry(name), Entry(_nfe_words(nfe)), *(column.get(key, _NONE) for column in columns))
        for key, (name, nfe) in names.items()
    )


def _envelope(summary: Summary, rows: pd.DataFrame, radius: float) -> dict[str, Entry]:
    """A column: the best sigma of each purifier, chosen on the test set, as papers report it."""
    best = {
        name: max((row for _, row in group.iterrows()), key=lambda row: (_share(row, radius), -row["sigma"]))
        for name, group in _candidates(rows, radius)
    }
    shared, radii = certified(summary, pd.DataFrame(list(best.values()), columns=rows.columns))
    samples = dict(zip(best, (radii >= radius).T, strict=True)) if len(shared) else {}
    entries = _marked({name: _share(row, radius) for name, row in best.items()}, samples)
    return {name: replace(e, text=f"{e.text} ({best[name]['sigma']:g})") for name, e in entries.items()}


def _envelope_split_half(summary: Summary, rows: pd.DataFrame, radius: float) -> dict[str, Entry]:
    """The envelope, read on images that had no part in choosing the sigma."""
    columns = {name: certified(summary, group)[1] >= radius for name, group in _candidates(rows, radius)}
    return {
        name: Entry(_PERCENT.format(100 * split_half(hits.astype(float))[0]))
        for name, hits in columns.items()
        if len(hits) > 1
    }


# Name -> entries of the column of a radius, caption, note.
_ENVELOPES = {
    "envelope": (
        _envelope,
        "Certified accuracy (%) at radius ε, with the best σ of each purifier and radius (in brackets).",
        "Each σ was chosen on the {part}, by the images that it is read on: figures are somewhat too high.",
    ),
    "envelope-split-half": (
        _envelope_split_half,
        "Certified accuracy (%) at radius ε, with the σ that is best on other images than it is read on.",
        f"One half of the images chooses σ, the other half reads it, both ways; means over {SPLITS} random halves.",
    ),
}


def _over_sigmas(summary: Summary, rows: pd.DataFrame, name: str) -> PaperTable:
    """A table with a row for each purifier, whatever the sigma."""
    column_at, caption, note = _ENVELOPES[name]
    columns = [column_at(summary, rows, radius) for radius in summary.radii]
    names = {purifier: (purifier, group["nfe"]) for purifier, group in rows.groupby("series", sort=False)}
    note = note.format(part=part_of(summary, rows))
    notes = (note, *_readings(summary, rows, marks=any(e.best for column in columns for e in column.values())))
    return PaperTable(name, caption, _head(summary), _lines(names, columns), notes)


def _candidates(rows: pd.DataFrame, radius: float) -> Iterable[tuple[str, pd.DataFrame]]:
    """By purifier, the complete rows with counts whose draws can certify the radius."""
    reach = rows["complete"] & (rows["source"] == COUNTED) & rows[accuracy_columns(radius)[0]].notna()
    return rows[reach].groupby("series", sort=False)


def _share(row: pd.Series, radius: float) -> float:
    return float(row[accuracy_columns(radius)[0]])


def _marked(
    values: Mapping[Any, float], samples: Mapping[Any, np.ndarray], form: str | None = None
) -> dict[Any, Entry]:
    """Entries of a column, the highest of those with samples marked, and those that are not significantly lower.

    Parameters:
        values: by row.
        samples: by row, the contribution of each shared image: whether it is certified, or its radius.
        form: of the figures; percent without one.
    """
    texts = {key: form.format(v) if form else _PERCENT.format(100 * v) for key, v in values.items()}
    means = {key: float(sample.mean()) for key, sample in samples.items()}
    highest = max(means.values(), default=0.0)
    if len(means) < 2 or highest <= 0:
        return {key: Entry(text) for key, text in texts.items()}
    best = [key for key, mean in means.items() if mean >= highest - 1e-12]
    columns = np.stack([samples[key] for key in means], axis=1)
    first = list(means).index(best[0])
    if form:
        tests = mean_differences(columns[:, [first]] - columns)
    else:
        tests = [accuracy_difference(columns[:, first], column) for column in columns.T]
    p = dict(zip(means, against_best(columns, first, [test.p for test in tests]), strict=True))
    return {k: Entry(text, k in best, k not in best and p.get(k, 0.0) > LEVEL) for k, text in texts.items()}


def _nfe_words(values: Iterable[float]) -> str:
    """One number, or the range of an adaptive solver over several sigmas."""
    words = list(dict.fromkeys(f"{value:.3g}" for value in sorted(values) if not math.isnan(value)))
    return words[0] if len(words) == 1 else f"{words[0]}–{words[-1]}" if words else ""


def _readings(summary: Summary, rows: pd.DataFrame, marks: bool = True) -> tuple[str, ...]:
    """Notes below a table: how the figures were measured and marked, and what is missing."""
    span = images_text(int(images) for images in rows["images"] if images)
    facts = (", ".join(data_sets(summary, rows)), span, *(f"by {rule}" for rule in certifiers_of(rows)))
    how = (
        "Bold: the highest of its column. †: not significantly lower on the same images (McNemar's exact test, paired "
        "bootstrap for the ACR; corrected for the best having been chosen on these images, 5 %)."
    )
    return (
        f"{'; '.join(filter(None, facts))}. {_NONE.text}: more than the draws can certify.",
        *([how] if marks else []),
        *(f"Note: {note}." for note in summary.notes),
    )
