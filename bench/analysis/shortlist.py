"""Which rows of a summary are candidates at a radius and for a budget; and where none is, why not. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import pandas as pd

from bench.certify.fixed import FixedN
from bench.summary.pairs import data_sets, listed, number_of
from bench.summary.summary import COUNTED, Summary

MOST_DRAWS = 10**9
UNITS = {"nfe": "network evaluations", "ms_purify": "ms per purification"}

Stage = tuple[Callable[[pd.DataFrame], pd.Series], Callable[[pd.DataFrame], str]]


def shortlist(
    summary: Summary, table: pd.DataFrame, radius: float, budgets: Mapping[str, float]
) -> tuple[pd.DataFrame, str]:
    """The candidates; where there is none, why not and what would help.

    Parameters:
        table: of `bench.summary.pairs.with_names`.
        budgets: the most that a purified image may cost, by column of the table.
    """
    if table.empty:
        return table, "Nothing is certified yet: `bench run` certifies."
    stages: tuple[Stage, ...] = (
        (lambda rows: rows["source"] == COUNTED, lambda _: "There are imported logs only, whose cost is not measured."),
        (lambda rows: rows["complete"], why_incomplete),
        (lambda rows: rows["largest"] >= radius, lambda rows: why_unreachable(summary, rows, radius)),
        *(within(column, most, radius) for column, most in budgets.items()),
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
    return table.reset_index(drop=True), ""


def why_incomplete(rows: pd.DataFrame) -> str:
    failed = int(rows["error"].notna().sum())
    if failed == len(rows):
        names = listed(dict.fromkeys(rows["name"]))
        return f"Everything failed ({names}): mend what the errors in `bench summary --json` say, and run it again."
    return f"No row has all of its images yet ({failed} of {len(rows)} failed): the same `bench run` command continues."


def why_unreachable(summary: Summary, rows: pd.DataFrame, radius: float) -> str:
    """How far the draws reach, and how many draws, or which radii, would reach further."""
    said = f"Nothing reaches radius {radius:g}: the largest that these draws can certify is {rows['largest'].max():.3g}"
    certifiers = [summary.certifiers.get(key) for key in zip(rows["run"], rows["cell"], strict=True)]
    draws = [(draws_needed(c, radius), c) for c in certifiers if isinstance(c, FixedN)]
    if not draws:
        sequential = any(str(rule).startswith("sequential") for rule in rows["rule"])
        asked = " A sequential rule certifies no radii but those that it was asked for (--radii)." if sequential else ""
        return f"{said}.{asked}"
    needed, fixed = min(draws, key=lambda pair: (pair[0], -pair[1].sigma))
    if math.isfinite(needed):
        return f"{said}. At σ = {fixed.sigma:g}, --n {needed:.0f} could reach it (now --n {fixed.n})."
    return f"{said}, and no number of draws at these σ would do: take a larger one."


def draws_needed(certifier: FixedN, radius: float) -> float:
    """The fewest estimation draws that could certify a radius, if all of them hit; infinity beyond a billion."""

    def reaches(n: int) -> bool:
        return replace(certifier, n=n).largest >= radius

    low, high = 0, certifier.n
    while not reaches(high):
        low, high = high, 4 * high
        if low > MOST_DRAWS:
            return math.inf
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return high


def within(column: str, most: float, radius: float) -> Stage:
    """The stage that keeps what costs no more than `most`."""

    def why(rows: pd.DataFrame) -> str:
        cheapest = rows.sort_values(column).iloc[0]
        return (
            f"Nothing that reaches radius {radius:g} is within the budget: the cheapest is {cheapest['name']} at "
            f"σ = {cheapest['sigma']:g}, for {cheapest[column]:.3g} {UNITS[column]}."
        )

    return (lambda rows: rows[column] <= most * (1 + 1e-9)), why


def left_out(table: pd.DataFrame, radius: float, several: bool) -> list[str]:
    """Which rows are no candidates although a reader may look for them.

    Parameters:
        several: only where there is more than one cause; a single one is in the verdict already.
    """
    if table.empty:
        return []
    counted = table[table["source"] == COUNTED]
    failed, partial = counted[counted["error"].notna()], counted[counted["error"].isna() & ~counted["complete"]]
    short = counted[counted["complete"] & (counted["largest"] < radius)]
    biased = partial["rule"].str.startswith("sequential").any()
    easy = ", and biased: a sequential rule decides easy images first" if biased else ""
    causes = (
        (len(failed), f"failed ({listed(dict.fromkeys(failed['name']))})"),
        (len(partial), f"incomplete{easy} ({listed(dict.fromkeys(partial['name']))})"),
        (len(short), f"with draws that cannot certify radius {radius:g}"),
        (len(table) - len(counted), "imported, without measured cost"),
    )
    said = [f"{count} {cause}" for count, cause in causes if count]
    words = f"not among the candidates, of {number_of(len(table), 'row')}: {'; '.join(said)}"
    return [words] if len(said) > several else []
