"""The words of a recommendation: how sure it is, what is as good and cheaper, what weakens it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from bench.analysis.standings import Standing
from bench.certify.base import Certifier
from bench.certify.fixed import FixedN
from bench.summary.pairs import cell_of, certified, certifiers_of, facts, listed, number_of, percent
from bench.summary.statistics import FEWEST, split_half
from bench.summary.summary import Summary

NEAR = 0.9  # of the largest radius: beyond it, nearly all draws must agree
CHEAPER = 0.9  # of the cost: a smaller saving is not worth a word, and milliseconds are no more precise than that
MUST_AGREE = ("classifier", "weights of the classifier", "seed of the noise", "code of the noise", "precision")


def budget_words(max_nfe: float | None, max_ms: float | None) -> str:
    """`at most 2 network evaluations`, `at most 0.5 ms per purification`, both, or `any cost`."""
    parts = [] if max_nfe is None else [f"{max_nfe:g} network evaluation{'' if max_nfe == 1 else 's'}"]
    parts += [] if max_ms is None else [f"{max_ms:g} ms per purification"]
    return f"at most {' and '.join(parts)}" if parts else "any cost"


def verdict(
    radius: float, top: Standing, rivals: Sequence[Standing], alike: Sequence[Standing], cost: str, more: int | None
) -> str:
    """One or two sentences: what to use, whether that is sure, what may be as good for less.

    Parameters:
        rivals: what the choice was among, best first.
        alike: those of them that it cannot be told from.
        cost: a column, in which `cheaper` is meant.
        more: images that would tell it from the first of them.
    """
    o = top.option
    interval = f"[{100 * o.low:.1f}, {100 * o.high:.1f}]"
    use = (
        f"Use {top.name} at σ = {o.sigma:g}: it certifies {percent(o.accuracy)} {interval} of "
        f"{number_of(o.images, 'image')} at radius {radius:g}"
    )
    if not rivals:
        return f"{use}, and nothing else does so within the budget."
    if not alike:
        p = max(s.p for s in rivals if s.p is not None)
        words = "p < 0.001" if p < 0.001 else f"p ≤ {p:.2g}"
        return f"{use}, more than every other candidate (next: {named(rivals[0], top)}; every {words})."
    if alike[0].behind is None:
        return f"{use}, but the candidates have no images in common, so that none can be told from another."
    others = list(dict.fromkeys(s.name for s in alike))
    few = (
        f"it cannot be told from {named(alike[0], top)}"
        if len(others) == 1
        else f"it cannot be told from {len(others)} others, the closest being {named(alike[0], top)}"
    )
    return f"{use}, but {few}. {capital('; '.join(second_thought(top, alike, cost, more)))}."


def second_thought(top: Standing, alike: Sequence[Standing], cost: str, more: int | None) -> list[str]:
    """The cheapest of those that may be as good, and what would tell them apart."""
    price = {s: s.option.nfe if cost == "nfe" else s.option.ms for s in (top, *alike)}
    unit = "NFE" if cost == "nfe" else "ms"
    said = []
    others = [s for s in alike if s.name != top.name]  # another sigma of one purifier costs the same, but for chance
    if cheaper := [s for s in others if price[s] < CHEAPER * price[top]]:
        s = min(cheaper, key=lambda s: (price[s], -s.option.accuracy))
        said.append(
            f"as good as far as these images tell, and cheaper: {named(s, top)}, {price[s]:.3g} {unit} instead of "
            f"{price[top]:.3g}"
        )
    elif others:
        said.append("none of them is cheaper" if len(others) > 1 else "it is no cheaper")
    if more is None:
        said.append("the closest certifies exactly as many, so more images may never tell")
    else:
        said.append(f"about {more:,} more images would tell it from the closest")
    return said


def named(standing: Standing, top: Standing) -> str:
    """A candidate with its accuracy, and its sigma where that is another one."""
    o = standing.option
    sigma = "" if o.sigma == top.option.sigma and standing.name != top.name else f" at σ = {o.sigma:g}"
    return f"{standing.name}{sigma} ({percent(o.accuracy)})"


def capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def cautions(summary: Summary, rows: pd.DataFrame, radius: float, by_time: bool) -> list[str]:
    """What weakens the comparison of the candidates."""
    said = []
    keys = list(zip(rows["run"], rows["cell"], strict=True))
    for up in sorted({up for key in keys if (up := read_at(summary.certifiers.get(key), radius)) is not None}):
        said.append(f"a sequential rule certifies the radii of its grid only: radius {radius:g} is read at {up:g}")
    if len(rules := certifiers_of(rows)) > 1:
        said.append(f"candidates have different certifiers, which are compared with them: {'; '.join(rules)}")
    devices = sorted(set(rows["device"].dropna())) if "device" in rows else []
    if by_time and len(devices) > 1:
        said.append(f"milliseconds were measured on different devices: {'; '.join(devices)}")
    known = [facts(cell) for _, row in rows.iterrows() if (cell := cell_of(summary, row)) is not None]
    for fact in MUST_AGREE:
        if len(values := {k[fact] for k in known if fact in k}) > 1:
            said.append(f"candidates differ in the {fact} ({listed(sorted(values))})")
    shared, _ = certified(summary, rows)
    if len(rows) > 1 and any(int(images) != len(shared) for images in rows["images"]):
        said.append(f"candidates have different images; they are compared on the {len(shared)} that they share")
    if len(rows) > 1 and 0 < len(shared) < FEWEST:
        said.append(f"with fewer than {FEWEST} images no probability is given")
    return said


def near_the_end(summary: Summary, row: pd.Series, radius: float) -> list[str]:
    """Whether more draws rather than more images would help, under a rule of fixed N.

    Parameters:
        row: of the chosen candidate.
    """
    certifier = summary.certifiers.get((row["run"], row["cell"]))
    if not isinstance(certifier, FixedN) or radius <= NEAR * row["largest"]:
        return []
    return [
        f"radius {radius:g} is near the largest that N = {certifier.n} draws certify at σ = {row['sigma']:g} "
        f"({row['largest']:.3g}): more draws (--n) would certify more images, whatever the purifier"
    ]


def read_at(certifier: Certifier | None, radius: float) -> float | None:
    """The radius of a sequential rule's grid at which another one is read; None where it is itself one of the grid."""
    grid = getattr(certifier, "radii", ())
    if any(math.isclose(r, radius, abs_tol=1e-12) for r in grid):
        return None
    return min((r for r in grid if r > radius), default=None)


def chosen_on_test(summary: Summary, rows: pd.DataFrame, radius: float) -> list[str]:
    """What a purifier certifies on images that had no part in choosing its sigma.

    Parameters:
        rows: the candidates of that purifier.
    """
    shared, radii = certified(summary, rows)
    if len(rows) < 2 or len(shared) < FEWEST:
        return []
    fair, _ = split_half((radii >= radius).astype(float))
    return [
        f"σ was chosen on the test set, among {len(rows)}; chosen on one half of the images and read on the other, it "
        f"gives {percent(fair)} (mean of random halves)"
    ]
