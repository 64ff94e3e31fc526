"""Recommendations and comparisons as text: the same lines in the terminal and under `print`."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.analysis import Change, Comparison, Recommendation, Standing
from bench.api.grid import figure_table
from bench.summary.format import images_text, listed, number_of, p_text, percent_interval
from bench.summary.headline import COSTS
from bench.summary.statistics import LEVEL, Difference

_WIDTH = 120


def recommendation_parts(found: Recommendation) -> Iterator[str | Table]:
    """The verdict, the share of resamples, the candidates and the notes."""
    yield found.verdict
    if found.share_best is not None:
        yield f"Best in {found.share_best:.0%} of resamples of the images (bootstrap)."
    if found.standings:
        yield _candidates_table(found)
    for note in found.notes:
        yield f"note: {note}"


def comparison_parts(found: Comparison) -> Iterator[str | Table]:
    """The verdict, a table for each sigma, how to read them, and the differences between the runs."""
    yield found.verdict
    yield from _changes_tables(found)
    yield (
        f"same images, {_NOISE[found.same_noise]}; change: second minus first, accuracy in percent points; p: "
        "McNemar's exact test, or paired bootstrap for the ACR, corrected (Holm) over all tests; *: one of them is "
        "5 % or less"
    )
    if (v := found.volume) is not None:
        yield (
            f"hypervolume of the front (the mean ACR that a budget buys; {v.scale}; {number_of(v.rows, 'row')}): "
            f"{v.volumes[0]:.3f} → {v.volumes[1]:.3f}, change {v.change:+.3f} [{v.low:+.3f}, {v.high:+.3f}]"
        )
    for line in found.differs:
        yield f"not the same: {line}"
    for name, rows in ((found.first, found.only_first), (found.second, found.only_second)):
        if rows:
            yield f"only in {name}: {listed(rows, 6)}"
    for note in found.notes:
        yield f"note: {note}"


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
    show(parts, Console(file=out, width=_WIDTH))
    return out.getvalue().rstrip()


class PrintedRecommendation(Recommendation):
    """A recommendation that prints as `bench recommend` does."""

    def __str__(self) -> str:
        return as_text(recommendation_parts(self))


class PrintedComparison(Comparison):
    """A comparison that prints as `bench compare` does."""

    def __str__(self) -> str:
        return as_text(comparison_parts(self))


_NOISE = {
    True: "the same noise",
    None: "the same seed of the noise",
    False: "but not the same noise, which hides small changes",
}


_READING = (
    "→: the choice; ≈: not significantly worse; behind: the choice's accuracy minus this one's, in percent points; p: "
    "McNemar's exact test, corrected for the choice having been made on these images; best in: share of resamples of "
    "the images in which the purifier, at any σ, certifies the most; front in: the share in which nothing as cheap (in "
    "the cost of the budget, or NFE) certifies more"
)


def _candidates_table(found: Recommendation) -> Table:
    """Each purifier of a recommendation at its best sigma, beside the chosen one."""
    span = images_text(standing.option.images for standing in found.standings)
    title = f"Certified accuracy at radius {found.radius:g}, {found.budget}: each purifier at its best σ, {span}"
    known = any(math.isfinite(standing.option.cost(found.beside)) for standing in found.standings)
    instead = [] if found.beside == "gflops" else ["ms_purify"]  # milliseconds that do not compare are not shown
    costs = [COSTS[c] for c in dict.fromkeys(("nfe", *([found.beside] if known else instead), found.cost))]
    facts = "", "purifier", "σ", "certified % [95 %]", "behind [95 %]", "p", "best in", "front in"
    table = figure_table(title, (*facts, *(axis.head for axis in costs)), _READING)
    first: dict[str, Standing] = {}
    for standing in found.standings:
        first.setdefault(standing.name, standing)
    for name, standing in first.items():
        o = standing.option
        alike = standing.p is not None and standing.p > LEVEL
        best = [s.best for s in found.standings if s.name == name and s.best is not None]
        table.add_row(
            "→" if standing is found.standings[0] else "≈" if alike else "",
            escape(name),
            f"{o.sigma:g}",
            escape(f"{100 * o.accuracy:.1f} {percent_interval(o.low, o.high)}"),
            _points(standing.behind),
            "" if standing.p is None else p_text(standing.p),
            number(sum(best) if best else None, ".2f"),
            number(standing.on_front, ".2f"),
            *(number(o.cost(axis.column), axis.form) for axis in costs),
            style="bold" if standing is found.standings[0] else None,
        )
    return table


def _points(difference: Difference | None) -> str:
    """A difference of accuracies in percent points, with its interval."""
    if difference is None or not difference.images:
        return ""
    return escape(f"{100 * difference.effect:.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]")


def number(value: float | None, form: str) -> str:
    """A number as text; empty if it is None or NaN."""
    return "" if value is None or math.isnan(value) else format(value, form)


def _changes_tables(found: Comparison) -> Iterator[Table]:
    """The changes between two runs, a table for each sigma; significant rows in bold."""
    for sigma in sorted({change.sigma for change in found.changes}):
        changes = [change for change in found.changes if change.sigma == sigma]
        span = images_text(change.images for change in changes)
        radii = listed(f"{radius:g}" for radius in dict.fromkeys(change.radius for change in changes))
        title = f"{found.first} → {found.second}: σ = {sigma:g}, certified accuracy at radius {radii}, {span}"
        columns = "purifier", "certified %", "change [95 %]", "p", "ACR change [95 %]", "p", "NFE", "ms"
        table = figure_table(title, columns, no_wrap=True, box=SIMPLE)
        for change in changes:
            table.add_row(*_figures(change), style="bold" if change.significant else None)
        yield table


def _figures(change: Change) -> Sequence[str]:
    """One row's figures as text."""
    acr = change.acr_change
    gained = f"{acr.effect:+.3f} [{acr.low:+.3f}, {acr.high:+.3f}]" if acr else "other certifier"
    same = not change.differing
    return (
        escape(change.name + ("" if change.complete else " (incomplete)") + (" *" if change.significant else "")),
        _arrow(100 * change.accuracy[0], 100 * change.accuracy[1], ".1f"),
        "identical" if same else _points(change.accuracy_change),
        "" if same else p_text(change.accuracy_p),
        "identical" if same else escape(gained),
        "" if same or change.acr_p is None else p_text(change.acr_p),
        _arrow(*change.nfe, ".3g"),
        _arrow(*change.ms, ".2f"),
    )


def _arrow(before: float, after: float, form: str) -> str:
    """`before → after`, or one number where both read the same."""
    words = number(before, form), number(after, form)
    return words[0] if words[0] == words[1] else " → ".join(words)
