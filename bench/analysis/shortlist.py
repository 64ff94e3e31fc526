"""The candidates of a recommendation: rows that certify a radius within a budget; if there are none, why. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from bench.certify import FixedN
from bench.summary import COUNTED, Summary
from bench.summary.format import listed, number_of
from bench.summary.headline import COSTS
from bench.summary.notes import unfinished
from bench.summary.pairs import data_sets

_MOST_DRAWS = 10**9

_Stage = tuple[Callable[[pd.DataFrame], pd.Series], Callable[[pd.DataFrame], str]]


def shortlist(
    summary: Summary, table: pd.DataFrame, radius: float, budgets: Mapping[str, float]
) -> tuple[pd.DataFrame, str]:
    """The candidates, and an empty text; if there are none, the reason and the remedy.

    Parameters:
        table: of `bench.summary.rows.named`.
        budgets: the highest cost of a purified image, by column of the table.
    """
    if table.empty:
        return table, "Nothing is certified yet: `bench run` certifies."
    stages: tuple[_Stage, ...] = (
        (lambda rows: rows["source"] == COUNTED, lambda _: "There are imported logs only, whose cost is not measured."),
        (lambda rows: rows["complete"], _why_incomplete),
        (lambda rows: rows["largest"] >= radius, lambda rows: _why_unreachable(summary, rows, radius)),
        *(_within(column, most, radius) for column, most in budgets.items()),
    )
    for keep, why in stages:
        kept = table[keep(table)]
        if kept.empty:
            return kept, why(table)
        table = kept
    if len(several := data_sets(summary, table)) > 1:
        return table.iloc[:0], (
            f"These runs certify different images ({listed(several)}), which do not compare: give runs of one data set."
        )
    return table, ""


def _why_incomplete(rows: pd.DataFrame) -> str:
    failed = int(rows["error"].notna().sum())
    if failed == len(rows):
        names = listed(dict.fromkeys(rows["series"]))
        return f"Everything failed ({names}): mend what the errors in `bench summary --json` say, and run it again."
    return f"No row has all of its images yet ({failed} of {len(rows)} failed): the same `bench run` command continues."


def _why_unreachable(summary: Summary, rows: pd.DataFrame, radius: float) -> str:
    """The largest radius of the draws, and the number of draws, or the radii, that would reach further."""
    reach = (
        f"Nothing reaches radius {radius:g}: the largest that these draws can certify is {rows['largest'].max():.3g}"
    )
    certifiers = [summary.certifiers.get(key) for key in zip(rows["run"], rows["cell"], strict=True)]
    draws = [(_draws_needed(c, radius), c) for c in certifiers if isinstance(c, FixedN)]
    if not draws:
        grid = " A sequential rule certifies only the radii of its grid (--radii)." if rows["sequential"].any() else ""
        return f"{reach}.{grid}"
    needed, fixed = min(draws, key=lambda pair: (pair[0], -pair[1].sigma))
    if math.isfinite(needed):
        return f"{reach}. At σ = {fixed.sigma:g}, --n {needed:.0f} could reach it (now --n {fixed.n})."
    return f"{reach}, and no number of draws at these σ would do: take a larger one."


def _draws_needed(certifier: FixedN, radius: float) -> float:
    """The fewest estimation draws that certify a radius if all of them hit; infinity beyond a billion."""
    numbers = range(1, _MOST_DRAWS + 1)
    fewest = bisect_left(numbers, True, key=lambda n: replace(certifier, n=n).largest >= radius)
    return numbers[fewest] if fewest < len(numbers) else math.inf


def _within(column: str, most: float, radius: float) -> _Stage:
    """The stage that keeps rows with a cost of at most `most`."""

    def why(rows: pd.DataFrame) -> str:
        if rows[column].isna().all():
            return f"The {COSTS[column].unit} of these runs are not known: the same `bench run` command adds them."
        cheapest = rows.sort_values(column).iloc[0]
        return (
            f"Nothing that reaches radius {radius:g} is within the budget: the cheapest is {cheapest['series']} at "
            f"σ = {cheapest['sigma']:g}, for {cheapest[column]:.3g} {COSTS[column].unit}."
        )

    return (lambda rows: rows[column] <= most * (1 + 1e-9)), why


def left_out(table: pd.DataFrame, radius: float, budgets: Mapping[str, float], several: bool) -> list[str]:
    """Rows that are no candidates although a reader may look for them, as at most one note.

    Parameters:
        budgets: as `shortlist` takes them.
        several: give a note only if there are several causes; the verdict names a single one.
    """
    if table.empty:
        return []
    counted = table[table["source"] == COUNTED]
    failed, partial, biased = unfinished(counted)
    short = counted[counted["complete"] & (counted["largest"] < radius)]
    reaching = counted[counted["complete"] & (counted["largest"] >= radius)]
    unpriced = {column: int(reaching[column].isna().sum()) for column in budgets}
    causes = (
        (len(failed), f"failed ({listed(failed['series'].unique())})"),
        (len(partial), f"incomplete ({listed(partial['series'].unique())}){biased and f' [{biased}]'}"),
        (len(short), f"with draws that cannot certify radius {radius:g}"),
        *((count, f"whose {COSTS[column].unit} are not known") for column, count in unpriced.items()),
        (len(table) - len(counted), "imported, without measured cost"),
    )
    parts = [f"{count} {cause}" for count, cause in causes if count]
    words = f"not among the candidates, of {number_of(len(table), 'row')}: {'; '.join(parts)}"
    return [words] if len(parts) > several else []
