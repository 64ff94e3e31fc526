"""Recommendations and comparisons as text: the same lines in the terminal and under `print`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from bench.analysis.comparison import Comparison
from bench.analysis.recommendation import Recommendation
from bench.cli.tables import candidates_table, changes_tables, reading_of

WIDTH = 120


def recommendation_parts(found: Recommendation) -> Iterator[str | Table]:
    """The verdict, its probability, the candidates and the notes."""
    yield found.verdict
    if found.probability is not None:
        yield f"Probability that no other candidate is better: {found.probability:.2f} (bootstrap over images)."
    if found.standings:
        yield candidates_table(found)
    for note in found.notes:
        yield f"note: {note}"


def comparison_parts(found: Comparison) -> Iterator[str | Table]:
    """The verdict, a table for each sigma, and how to read them."""
    yield found.verdict
    yield from changes_tables(found)
    yield from reading_of(found)


def show(parts: Sequence[str | Table] | Iterator[str | Table], console: Console) -> None:
    """Print lines as they are and tables in the width of the console."""
    for part in parts:
        if isinstance(part, str):
            console.print(part, markup=False, highlight=False, soft_wrap=True)
        else:
            console.print(part)


def as_text(parts: Iterator[str | Table]) -> str:
    """The printed form, without colours."""
    out = io.StringIO()
    show(parts, Console(file=out, width=WIDTH))
    return out.getvalue().rstrip()


class PrintedRecommendation(Recommendation):
    """A recommendation that prints as `bench recommend` does."""

    def __str__(self) -> str:
        return as_text(recommendation_parts(self))


class PrintedComparison(Comparison):
    """A comparison that prints as `bench compare` does."""

    def __str__(self) -> str:
        return as_text(comparison_parts(self))
