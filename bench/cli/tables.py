"""Terminal tables: the figures of runs, candidates, gains over a baseline, changes between two runs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.analysis.changes import Change
from bench.analysis.comparison import Comparison
from bench.analysis.recommendation import Recommendation, Standing
from bench.records import COUNTED
from bench.summary.format import images_text, listed, number_of, p_text, percent, percent_interval
from bench.summary.statistics import CONFIDENCE, Difference

if TYPE_CHECKING:
    import pandas as pd

    from bench.summary.summary import Summary

LEVEL = 1 - CONFIDENCE
NOISE = {
    True: "the same noise",
    None: "the same seed of the noise",
    False: "but not the same noise, which hides small changes",
}
READING = (
    "→: the choice; ≈: not significantly worse; behind: the choice's accuracy minus this one's, in percent points; p: "
    "McNemar's exact test, corrected (Holm); P(best): how often the purifier, at any σ, certifies the most when "
    "images are resampled; P(front): how often nothing as cheap (in the cost of the budget, or NFE) certifies more"
)


def results_table(summary: Summary) -> Table:
    """Certified accuracy at the radii, ACR, abstention, NFE and milliseconds, by sigma and purifier."""
    from bench.summary.rows import named

    rows = named(summary)
    table = Table(
        title=Text(f"{summary.title}: certified accuracy (%) at L2 radii"),
        caption=Text("\n".join([*(f"by {rule}" for rule in rows["rule"].drop_duplicates()), *summary.notes])),
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("σ", justify="right")
    table.add_column("purifier", no_wrap=False, overflow="fold")
    for radius in summary.radii:
        table.add_column(f"≥{radius:g}", justify="right")
    for name in ("ACR", "abst.", "NFE", "ms", "images"):
        table.add_column(name, justify="right")
    for sigma, group in rows.groupby("sigma", sort=True):
        table.add_section()
        for _, row in group.iterrows():
            table.add_row(f"{sigma:g}", escape(row["series"]), *_figures(row, summary.radii))
    return table


def _figures(row: pd.Series, radii: Sequence[float]) -> list[str]:
    """The figures of one row as text; unknown ones are empty, such as radii that the draws cannot certify."""
    if not row["images"]:
        return ["" for _ in radii] + ["", "", "", "", "failed" if isinstance(row["error"], str) else "0"]
    accuracies = [_text(100 * row[f"acc@{radius:g}"], ".1f") for radius in radii]
    ms = _text(row["ms_purify"], ".2f") if row["source"] == COUNTED else ""
    abstained = percent(row["abstained"])
    return [*accuracies, _text(row["acr"], ".3f"), abstained, _text(row["nfe"], ".3g"), ms, f"{row['images']:.0f}"]


def _text(value: float, form: str) -> str:
    return "" if value != value else format(value, form)  # NaN differs from itself


def candidates_table(found: Recommendation) -> Table:
    """Each purifier of a recommendation at its best sigma, beside the chosen one."""
    span = images_text(standing.option.images for standing in found.standings)
    table = Table(
        title=Text(
            f"Certified accuracy at radius {found.radius:g}, {found.budget}: each purifier at its best σ, {span}"
        ),
        caption=Text(READING),
        caption_justify="left",
        pad_edge=False,
    )
    table.add_column("")
    table.add_column("purifier", overflow="fold")
    for name in ("σ", "certified % [95 %]", "behind [95 %]", "p", "P(best)", "P(front)", "NFE", "ms"):
        table.add_column(name, justify="right")
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
            points(standing.behind),
            "" if standing.p is None else p_text(standing.p),
            share(sum(best) if best else None),
            share(standing.on_front),
            number(o.nfe, ".3g"),
            number(o.ms, ".2f"),
            style="bold" if standing is found.standings[0] else None,
        )
    return table


def points(difference: Difference | None) -> str:
    """A difference of accuracies in percent points, with its interval."""
    if difference is None or not difference.images:
        return ""
    return escape(f"{100 * difference.effect:.1f} [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]")


def share(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def number(value: float, form: str) -> str:
    return "" if math.isnan(value) else format(value, form)


def changes_tables(found: Comparison) -> Iterator[Table]:
    """The changes between two runs, a table for each sigma; significant rows in bold."""
    for sigma in sorted({change.sigma for change in found.changes}):
        changes = [change for change in found.changes if change.sigma == sigma]
        span = images_text(change.images for change in changes)
        radii = listed(f"{radius:g}" for radius in dict.fromkeys(change.radius for change in changes))
        table = Table(
            title=Text(f"{found.first} → {found.second}: σ = {sigma:g}, certified accuracy at radius {radii}, {span}"),
            box=SIMPLE,
            pad_edge=False,
        )
        table.add_column("purifier", overflow="fold")
        for name in ("certified %", "change [95 %]", "p", "ACR change [95 %]", "p", "NFE", "ms"):
            table.add_column(name, justify="right", no_wrap=True)
        for change in changes:
            table.add_row(*figures(change), style="bold" if change.significant else None)
        yield table


def gains_table(gains: pd.DataFrame, baseline: str | None, radius: float | None = None) -> Table:
    """Paired gains of average certified radius, or of certified accuracy at a radius."""
    quantity, form, scale = (
        ("ACR", "+.3f", 1) if radius is None else (f"Points of accuracy at r = {radius:g}", "+.1f", 100)
    )
    table = Table(title=Text(f"{quantity} gained over {baseline}, image by image"), pad_edge=False)
    table.caption = Text(
        "95 % intervals (" + ("paired bootstrap" if radius is None else "Newcombe; p by McNemar's exact test") + "), p "
        "corrected for the whole table (Holm); * below 5 %; unfinished rows are left out"
    )
    several = gains["run"].nunique() > 1
    for name in (*(["run"] if several else []), "σ", "purifier", "gain", "interval", "p", "images"):
        table.add_column(name, justify="left" if name in ("run", "purifier") else "right")
    for _, row in gains.iterrows():
        gain, low, high = (format(scale * row[name], form) for name in ("gain", "gain_low", "gain_high"))
        p = f"{p_text(row['p_holm'])}{' *' if row['p_holm'] < LEVEL else '  '}"
        values = gain, escape(f"[{low}, {high}]"), p, str(row["images"])
        run = [escape(row["run"])] if several else []
        table.add_row(*run, f"{row['sigma']:g}", escape(row["name"]), *values)
    return table


def figures(change: Change) -> Sequence[str]:
    """One row's figures as text."""
    acr = change.acr_change
    gained = f"{acr.effect:+.3f} [{acr.low:+.3f}, {acr.high:+.3f}]" if acr else "other certifier"
    same = not change.differing
    return (
        escape(change.name + ("" if change.complete else " (incomplete)") + (" *" if change.significant else "")),
        arrow(100 * change.accuracy[0], 100 * change.accuracy[1], ".1f"),
        "identical" if same else points(change.accuracy_change),
        "" if same else p_text(change.accuracy_p),
        "identical" if same else escape(gained),
        "" if same or change.acr_p is None else p_text(change.acr_p),
        arrow(*change.nfe, ".3g"),
        arrow(*change.ms, ".2f"),
    )


def arrow(before: float, after: float, form: str) -> str:
    """`before → after`, or one number where both read the same."""
    words = number(before, form), number(after, form)
    return words[0] if words[0] == words[1] else " → ".join(words)


def reading_of(found: Comparison) -> list[str]:
    """Lines below the tables: the meaning of the columns, differences between the runs, and rows of one run only."""
    noise = NOISE[found.same_noise]
    lines = [
        f"same images, {noise}; change: second minus first, accuracy in percent points; p: McNemar's exact test, or "
        "paired bootstrap for the ACR, corrected (Holm) over all tests; *: one of them is 5 % or less"
    ]
    if (v := found.volume) is not None:
        lines.append(
            f"hypervolume of the front (the mean ACR that a budget buys; {v.scale}; {number_of(v.rows, 'row')}): "
            f"{v.volumes[0]:.3f} → {v.volumes[1]:.3f}, change {v.change:+.3f} [{v.low:+.3f}, {v.high:+.3f}]"
        )
    lines += [f"not the same: {line}" for line in found.differs]
    for name, rows in ((found.first, found.only_first), (found.second, found.only_second)):
        lines += [f"only in {name}: {listed(rows, 6)}"] if rows else []
    return lines + [f"note: {note}" for note in found.notes]
