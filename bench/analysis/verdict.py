"""The text of a recommendation: the choice, how sure it is, cheaper alternatives, and caveats. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from bench.analysis.standings import Standing
from bench.certify import Certifier, FixedN
from bench.summary import Summary
from bench.summary.format import listed, number_of, p_text, percent, percent_interval
from bench.summary.headline import COSTS
from bench.summary.notes import shared_times
from bench.summary.pairs import cells_of, certified, certifiers_of, identities_compare, identity, part_of, settings
from bench.summary.statistics import FEWEST, split_half

_NEAR = 0.9  # of the largest radius: beyond it, nearly all draws must agree
_CHEAPER = 0.9  # of the cost: milliseconds are not precise enough for smaller savings
_OF_CLASSIFIER = ("classifier", "weights of the classifier")
_MUST_AGREE = (
    *(*_OF_CLASSIFIER, "seed of the noise", "code of the noise", "version of the noise"),
    *("noise", "precision"),
)


def budget_words(budgets: Mapping[str, float]) -> str:
    """`at most 2 network evaluations and 0.5 ms per purification`; `any cost` without a budget.

    Parameters:
        budgets: the highest cost, by column of a summary's table.
    """
    parts = []
    for column, most in budgets.items():
        unit = COSTS[column].unit
        parts.append(f"{most:g} {unit.removesuffix('s') if column == 'nfe' and most == 1 else unit}")
    return f"at most {' and '.join(parts)}" if parts else "any cost"


def verdict(
    radius: float,
    top: Standing,
    rivals: Sequence[Standing],
    alike: Sequence[Standing],
    cost: str,
    more: int | None,
    beside: str = "ms_joint",
) -> str:
    """One or two sentences: the choice, whether it is sure, and the cheapest candidate that may be as good.

    Parameters:
        rivals: the other candidates, best first.
        alike: the rivals that are not significantly worse.
        cost: the column by which candidates are cheaper.
        more: see `Recommendation.more_images`.
        beside: the column whose cost is told, too, where no network is evaluated.
    """
    o = top.option
    use = (
        f"Use {top.name} at σ = {o.sigma:g}: it certifies {percent(o.accuracy)} {percent_interval(o.low, o.high)} of "
        f"{number_of(o.images, 'image')} at radius {radius:g}"
    )
    if not rivals:
        return f"{use}, and nothing else does so within the budget."
    if not alike:
        p = p_text(max(s.p for s in rivals if s.p is not None))
        return f"{use}, more than every other candidate (next: {_named(rivals[0], top)}; largest p: {p})."
    if alike[0].behind is None:
        return f"{use}, but the candidates have no images in common, so they cannot be compared."
    others = list(dict.fromkeys(s.name for s in alike))
    among = f"{len(others)} others, the closest being " if len(others) > 1 else ""
    second = "; ".join(_second_thought(top, alike, cost, more, beside))
    first = f"{use}, but it cannot be distinguished from {among}{_named(alike[0], top)}"
    return f"{first}. {second[0].upper()}{second[1:]}."


def _second_thought(top: Standing, alike: Sequence[Standing], cost: str, more: int | None, beside: str) -> list[str]:
    """The cheapest candidate that may be as good, and the number of images that would separate them."""
    price = {s: s.option.cost(cost) for s in (top, *alike)}
    unit = COSTS[cost].head
    parts = []
    others = [s for s in alike if s.name != top.name]  # at another sigma a purifier costs the same
    if cheaper := [s for s in others if price[s] < _CHEAPER * price[top]]:
        s = min(cheaper, key=lambda s: (price[s], -s.option.accuracy))
        spent = f"{price[s]:.3g} {unit} instead of {price[top]:.3g}"
        own, others_own = s.option.cost(beside), top.option.cost(beside)
        if (
            cost == "nfe" and not price[s] and math.isfinite(own) and math.isfinite(others_own)
        ):  # no network, and not free
            spent += f", {own:.3g} {COSTS[beside].unit} instead of {others_own:.3g}"
        parts.append(f"not significantly worse, and cheaper: {_named(s, top)}, {spent}")
    elif others:
        parts.append("none of them is cheaper" if len(others) > 1 else "it is no cheaper")
    if more is None:
        parts.append("the closest certifies exactly as many, so more images may never separate them")
    else:
        parts.append(f"about {more:,} more images would separate it from the closest")
    return parts


def _named(standing: Standing, top: Standing) -> str:
    """A candidate with its accuracy, and its sigma if it is not the one of the choice."""
    o = standing.option
    sigma = "" if o.sigma == top.option.sigma and standing.name != top.name else f" at σ = {o.sigma:g}"
    return f"{standing.name}{sigma} ({percent(o.accuracy)})"


def cautions(summary: Summary, rows: pd.DataFrame, radius: float, by_time: bool) -> list[str]:
    """Caveats of the comparison of the candidates."""
    lines = [note for note in summary.notes if any(map(note.endswith, summary.evidence.values()))]
    lines += summary.remarks
    keys = list(zip(rows["run"], rows["cell"], strict=True))
    for up in sorted({up for key in keys if (up := _read_at(summary.certifiers.get(key), radius)) is not None}):
        lines.append(f"a sequential rule certifies the radii of its grid only: radius {radius:g} is read at {up:g}")
    if len(rules := certifiers_of(rows)) > 1:
        lines.append(f"candidates have different certifiers, which are compared with them: {'; '.join(rules)}")
    if by_time and summary.untimed:
        lines.append(f"milliseconds do not compare: {summary.untimed}")
    if by_time and (sharing := shared_times(rows)):
        lines.append(sharing[0].lower() + sharing[1:-1])
    cells = cells_of(summary, rows)
    facts = [settings(cell) | (identity(cell) if identities_compare(cells) else {}) for cell in cells]
    for fact in _MUST_AGREE:
        told = [cell.own_classifier and fact in _OF_CLASSIFIER for cell in cells]  # by the name of the row
        values = {f[fact] for f, known in zip(facts, told, strict=True) if fact in f and not known}
        if len(values) > 1:
            lines.append(f"candidates differ in the {fact} ({listed(sorted(values))})")
    shared, _ = certified(summary, rows)
    if len(rows) > 1 and any(int(images) != len(shared) for images in rows["images"]):
        lines.append(f"candidates have different images; they are compared on the {len(shared)} that they share")
    if len(rows) > 1 and 0 < len(shared) < FEWEST:
        lines.append(f"with fewer than {FEWEST} images no share of resamples is given")
    return lines


def near_the_end(summary: Summary, row: pd.Series, radius: float) -> list[str]:
    """A note if more draws, rather than more images, would help under a rule of fixed N.

    Parameters:
        row: of the chosen candidate.
    """
    certifier = summary.certifiers.get((row["run"], row["cell"]))
    if not isinstance(certifier, FixedN) or radius <= _NEAR * row["largest"]:
        return []
    return [
        f"radius {radius:g} is near the largest that N = {certifier.n} draws certify at σ = {row['sigma']:g} "
        f"({row['largest']:.3g}): more draws (--n) would certify more images, whatever the purifier"
    ]


def _read_at(certifier: Certifier | None, radius: float) -> float | None:
    """The radius of a sequential rule's grid at which `radius` is read; None if it is in the grid, or beyond it."""
    grid = getattr(certifier, "radii", ())
    if any(math.isclose(r, radius, abs_tol=1e-12) for r in grid):
        return None
    return min((r for r in grid if r > radius), default=None)


def chosen_on_test(summary: Summary, rows: pd.DataFrame, radius: float) -> list[str]:
    """A note: the accuracy of a purifier on images that had no part in choosing its sigma.

    Parameters:
        rows: the candidates of that purifier.
    """
    shared, radii = certified(summary, rows)
    if len(rows) < 2 or len(shared) < FEWEST:
        return []
    fair, _ = split_half((radii >= radius).astype(float))
    return [
        f"σ was chosen on the {part_of(summary, rows)}, among {len(rows)}; chosen on one half of the images and read "
        f"on the other, it gives {percent(fair)} (mean of random halves)"
    ]
