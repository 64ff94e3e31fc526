"""Summaries -> tables for a paper: the best marked, those close to it, and those significantly lower. Pure.

Significance is judged on the images that the complete rows share: McNemar's exact test against the best of the column,
paired bootstrap for the ACR, both corrected for the best having been chosen on these images. Gains over the one step of
the same network are those of `bench.analysis.best` and `bench.analysis.gains`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.analysis.best import best_sigmas
from bench.analysis.costs import COST_READING, cost_words, table_costs
from bench.analysis.gains import gain_sentences, paired_gains
from bench.analysis.references import READING, worth_sentences
from bench.errors import InputError
from bench.summary import COUNTED, Summary
from bench.summary.cells import accuracy_columns
from bench.summary.format import change_text, images_text, listed, p_text, percent_interval
from bench.summary.names import series_of
from bench.summary.notes import shared_times
from bench.summary.pairs import certified, certifiers_of, data_sets, part_of
from bench.summary.rows import named
from bench.summary.statistics import LEVEL, SPLITS, accuracy_difference, against_best, mean_differences

_PERCENT = "{:.1f}"
EPSILON = "ε = "


@dataclass(frozen=True)
class Entry:
    """A cell of a table.

    Attributes:
        text: not yet escaped.
        best: the highest of its column.
        close: not the highest, but not significantly lower.
        lower: significantly lower than the highest.
    """

    text: str
    best: bool = False
    close: bool = False
    lower: bool = False


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
    """Each purifier at its best sigma, in an `envelope` of all radii and a table for each; then a table for each sigma.

    Each sigma was chosen on the test set; figures with sigma chosen on one half of the images and read on the other
    stand beside. There is no envelope of one sigma.

    Parameters:
        sigmas: those to take, instead of all.

    Raises:
        ValueError: the summary does not have one of `sigmas`; the message lists those it has.
    """
    table = named(summary)
    if not table["complete"].any():
        return []
    known = sorted(table["sigma"].unique())
    for sigma in sigmas or ():
        if not any(math.isclose(sigma, k) for k in known):
            has = listed((f"{k:g}" for k in known), 20) or "none"
            raise InputError(f"there is no sigma {sigma:g} in these runs; there are: {has}")
    chosen = [k for k in known if sigmas is None or any(math.isclose(k, s) for s in sigmas)]
    rows = table[table["sigma"].isin(chosen)]
    best = best_sigmas(summary, chosen)
    best = best.assign(series=series_of(best))
    gains = paired_gains(summary)
    return [
        *([_envelope(summary, rows, best)] if len(chosen) > 1 else []),
        *(_of_radius(summary, rows, part, radius) for radius, part in best.groupby("radius")),
        *(_of_sigma(summary, rows[rows["sigma"] == s], gains[gains["sigma"] == s], s) for s in chosen),
    ]


def _of_sigma(summary: Summary, rows: pd.DataFrame, gains: pd.DataFrame, sigma: float) -> PaperTable:
    """The rows of one sigma: NFE, certified accuracy at every radius, ACR and its gain over the own one step."""
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
    of_cell = {(row["run"], row["cell"]): row for _, row in gains.iterrows()}
    gained = {key: of_cell.get((row["run"], row["cell"])) for key, row in rows.iterrows()}
    columns += [{key: entry(row) for key, row in gained.items() if row is not None} for entry in (_gain, _p)]
    costs = table_costs(summary)
    names = {key: (Entry(rows["name"][key]), *map(Entry, cost_words(rows.loc[[key]], costs))) for key in rows.index}
    notes = (
        *_readings(summary, rows),
        *(() if alike else ("ACRs of different certifiers do not compare.",)),
        *((_GAIN.format("ACR", READING, "paired bootstrap", ""), *gain_sentences(gains)) if len(gains) else ()),
    )
    caption = f"Certified accuracy (%) at radius ε, σ = {sigma:g}."
    head = *_head(summary), "ACR", *(("gain", "p") if len(gains) else ())
    return PaperTable(f"sigma-{sigma:g}", caption, head, _lines(names, columns[: len(head) - 1 - len(costs)]), notes)


def _head(summary: Summary) -> tuple[str, ...]:
    costs = (axis.head.removeprefix("joint ") for axis in table_costs(summary))
    return "Purifier", *costs, *(f"{EPSILON}{radius:g}" for radius in summary.radii)


def _lines(
    names: Mapping[Any, tuple[Entry, ...]], columns: Sequence[Mapping[Any, Entry]]
) -> tuple[tuple[Entry, ...], ...]:
    """The rows of a table from their names and costs, and the entries of each column, by row."""
    return tuple((*facts, *(column.get(key, _NONE) for column in columns)) for key, facts in names.items())


def _envelope(summary: Summary, rows: pd.DataFrame, best: pd.DataFrame) -> PaperTable:
    """A row for each purifier, whatever the sigma: accuracy and split-half figure at each radius.

    Parameters:
        best: of `best_sigmas`, with the column series.
    """
    columns = []
    for radius in summary.radii:
        part = best[best["radius"] == radius]
        marks = _standing(part)
        texts = [f"{100 * row['accuracy']:.1f}{_half(row, ' / ')} ({row['sigma']:g})" for _, row in part.iterrows()]
        columns.append({name: replace(e, text=t) for (name, e), t in zip(marks.items(), texts, strict=True)})
    costs = table_costs(summary)
    groups = rows.groupby("series", sort=False)
    names = {purifier: (Entry(purifier), *map(Entry, cost_words(group, costs))) for purifier, group in groups}
    caption = (
        "Certified accuracy (%) at radius ε, each purifier at its best σ (in brackets) / with σ chosen on one half of "
        "the images and accuracy read on the other."
    )
    notes = (_chosen(summary, rows), *_readings(summary, rows))
    return PaperTable("envelope", caption, _head(summary), _lines(names, columns), notes)


def _of_radius(summary: Summary, rows: pd.DataFrame, best: pd.DataFrame, radius: float) -> PaperTable:
    """The purifiers at one radius, each at its best sigma, the best first, with their gains and losses."""
    lines, costs = [], table_costs(summary)
    for (name, mark), (_, row) in zip(_standing(best).items(), best.iterrows(), strict=True):
        accuracy = f"{100 * row['accuracy']:.1f} {percent_interval(row['low'], row['high'])}"
        own = rows[(rows["run"] == row["run"]) & (rows["cell"] == row["cell"])]
        priced = map(Entry, cost_words(own, costs))
        facts = Entry(name), *priced, Entry(f"{row['sigma']:g}"), replace(mark, text=accuracy)
        gains = (_gain(row, ""), _p(row), Entry(row["baseline"])) if row["baseline"] else (_NONE,) * 3
        lines.append((*facts, Entry(_half(row) or _NONE.text), *gains))
    head = (*_head(summary)[: 1 + len(costs)], "σ", "accuracy [95 %]", "split-half", "gain [95 %]", "p", "over")
    caption = f"Certified accuracy (%) at radius {radius:g}, each purifier at its best σ."
    reading = _GAIN.format("certified accuracy", READING, "McNemar's exact test", "the choice of σ and ")
    notes = (
        *(
            [f"{_chosen(summary, rows)} Split-half: means over {SPLITS} random halves."]
            if best["sigmas"].max() > 1
            else []
        ),
        *_readings(summary, rows),
        *worth_sentences(summary, best),
        *((reading, *gain_sentences(best, per="radius")) if best["baseline"].any() else ()),
    )
    return PaperTable(f"radius-{radius:g}", caption, head, tuple(lines), notes)


_GAIN = (
    "Gain: {} minus that of {}; 95 % interval. p: {}, corrected for {}all gains of the runs (Holm). Higher, lower: "
    "significantly (5 %)."
)


def _chosen(summary: Summary, rows: pd.DataFrame) -> str:
    return (
        f"Each σ was chosen on the {part_of(summary, rows)}, by the images that it is read on: figures are somewhat "
        "too high, except those with σ chosen on one half of the images and read on the other half, both ways."
    )


def _standing(best: pd.DataFrame) -> dict[str, Entry]:
    """By purifier, its mark at one radius, without a text."""
    if len(best) < 2 or not best["accuracy"].max() > 0:
        return {name: Entry("") for name in best["series"]}
    return {
        row["series"]: Entry(
            "", row["behind"] == 0, row["behind"] > 0 and row["p_behind"] > LEVEL, row["p_behind"] <= LEVEL
        )
        for _, row in best.iterrows()
    }


def _half(row: pd.Series, before: str = "") -> str:
    """The split-half figure of a row; empty if there is none."""
    return "" if math.isnan(row["split_half"]) else before + _PERCENT.format(100 * row["split_half"])


def _gain(row: pd.Series, form: str = "+.3f") -> Entry:
    return Entry(change_text(row["gain"], row["gain_low"], row["gain_high"], form))


def _p(row: pd.Series) -> Entry:
    return Entry(f"{p_text(row['p_holm'])} {row['verdict'].removeprefix('significantly ')}".strip())


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
    return {
        k: Entry(text, k in best, k not in best and p[k] > LEVEL, p[k] <= LEVEL) if k in p else Entry(text)
        for k, text in texts.items()
    }


def _readings(summary: Summary, rows: pd.DataFrame) -> tuple[str, ...]:
    """Notes below a table: how the figures were measured and marked, and what is missing."""
    span = images_text(int(images) for images in rows["images"] if images)
    facts = (", ".join(data_sets(summary, rows)), span, *(f"by {rule}" for rule in certifiers_of(rows)))
    counted = " of the rows with counts; published logs are not ranked" if (rows["source"] != COUNTED).any() else ""
    how = (
        f"Bold: the highest{counted}. †: not significantly lower than that; ↓: significantly lower (5 %; on the same "
        "images, McNemar's exact test, for the ACR paired bootstrap, corrected for the best being chosen on them)."
    )
    return (
        f"{'; '.join(filter(None, facts))}. {_NONE.text}: more than the draws can certify.",
        how,
        *((COST_READING, *filter(None, [shared_times(rows)])) if len(table_costs(summary)) > 1 else ()),
        *(f"Note: {note}." for note in summary.notes),
    )
