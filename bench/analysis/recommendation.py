"""Recommend a purifier from a summary, for a radius and a budget. Pure.

Candidates are pairs of a purifier and a sigma. The one that certifies the most images is chosen; McNemar's exact test,
corrected for that choice, says whether the images can tell it from those of other purifiers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.analysis.references import Contender, worth
from bench.analysis.repeats import one_of_each
from bench.analysis.shortlist import left_out, shortlist
from bench.analysis.standings import Option, Standing, rank
from bench.analysis.verdict import budget_words, cautions, chosen_on_test, near_the_end, verdict
from bench.errors import InputError
from bench.summary import Summary
from bench.summary.format import number_of
from bench.summary.headline import COSTS
from bench.summary.rows import named
from bench.summary.statistics import LEVEL, images_needed

__all__ = ["Option", "Recommendation", "Standing", "recommend"]


@dataclass(frozen=True)
class Recommendation:
    """The purifier to use, and how sure that is.

    Attributes:
        radius: L2, in [0,1] pixel units.
        budget: in words.
        chosen: certifies the most images; None if nothing can be recommended: `verdict` says why.
        runner_up: the best candidate of another purifier (of another sigma, if there is one purifier only).
        share_best: share of resamples of the images (paired bootstrap) in which the chosen purifier, at any of its
            sigmas, certifies the most. It is no probability that the choice is right. None without rivals and with too
            few images.
        clear: every candidate of another purifier is significantly worse than the chosen one, or there is none.
        more_images: estimated number of further images that would separate it from the closest, if the observed shares
            are the true ones; None if it is clear already, and if no difference was observed.
        verdict: one or two sentences.
        notes: further warnings for a reader.
        standings: all candidates, the best first.
        cost: the column of the summary by which candidates are cheaper: that of the budget, or nfe.
        beside: the column that is shown beside it: ms_joint, or gflops where milliseconds do not compare.
    """

    radius: float
    budget: str
    chosen: Option | None
    runner_up: Option | None
    share_best: float | None
    clear: bool
    more_images: int | None
    verdict: str
    notes: tuple[str, ...] = ()
    standings: tuple[Standing, ...] = ()
    cost: str = "nfe"
    beside: str = "ms_joint"


def recommend(
    summary: Summary,
    radius: float,
    max_nfe: float | None = None,
    max_ms: float | None = None,
    max_gflops: float | None = None,
    max_joint_ms: float | None = None,
) -> Recommendation:
    """The purifier to use at a radius and for a budget.

    Candidates are the complete rows with counts, if their draws can certify the radius and their cost is within the
    budget.

    Parameters:
        radius: L2, in [0,1] pixel units.
        max_nfe, max_ms: network evaluations and milliseconds per purified image, that is per draw of noise.
        max_gflops, max_joint_ms: 10^9 floating-point operations and milliseconds per vote, of purifier and classifier.

    Raises:
        ValueError: the radius or a budget is negative or not finite.
    """
    limits = {"nfe": max_nfe, "gflops": max_gflops, "ms_purify": max_ms, "ms_joint": max_joint_ms}
    budgets = {column: most for column, most in limits.items() if most is not None}
    for name, value in (("radius", radius), *((f"budget of {COSTS[c].unit}", most) for c, most in budgets.items())):
        if not 0 <= value < math.inf:
            raise InputError(f"the {name} must be a number of at least 0, got {value:g}")
    budget, cost = budget_words(budgets), ["nfe", *budgets][-1]
    table = named(summary)
    rows, why = shortlist(summary, table, radius, budgets)
    notes = left_out(table, radius, budgets, several=bool(why))
    if why:
        return Recommendation(radius, budget, None, None, None, False, None, why, tuple(notes), cost=cost)
    rows, repeats = one_of_each(summary, rows)
    rows, notes = rows.reset_index(drop=True), [*filter(None, [repeats]), *notes]
    standings = rank(summary, rows, radius, cost)
    top, others = standings[0], standings[1:]
    notes = [*cautions(summary, rows, radius, any(column.startswith("ms_") for column in budgets)), *notes]
    if not top.option.accuracy:
        why = f"Not a single image is certified at radius {radius:g} (by {number_of(len(rows), 'candidate')})."
        return Recommendation(radius, budget, None, None, None, False, None, why, tuple(notes), standings, cost)
    at_sigmas = rows[rows["series"] == top.name]
    chosen = at_sigmas[at_sigmas["sigma"] == top.option.sigma].iloc[0]
    families = dict(zip(rows["series"], rows["family"], strict=True))
    asked = worth([Contender(s.name, families[s.name], s.option.accuracy, s.p) for s in standings], radius)
    notes = [
        *filter(None, [asked.removesuffix(".")]),
        *chosen_on_test(summary, at_sigmas, radius),
        *near_the_end(summary, chosen, radius),
        *notes,
    ]
    of_others = [s for s in others if s.name != top.name]
    rivals = of_others or list(others)
    alike = [s for s in rivals if s.p is None or s.p > LEVEL]
    same = [s for s in standings if s.name == top.name] if of_others else [top]
    more = _more_images(alike)
    beside = "gflops" if summary.untimed else "ms_joint"
    return Recommendation(
        radius=radius,
        budget=budget,
        chosen=top.option,
        runner_up=rivals[0].option if rivals else None,
        share_best=math.fsum(s.best for s in same if s.best is not None) if rivals and top.best is not None else None,
        clear=not alike,
        more_images=more,
        verdict=verdict(radius, top, rivals, alike, cost, more, beside),
        notes=tuple(notes),
        standings=standings,
        cost=cost,
        beside=beside,
    )


def _more_images(alike: Sequence[Standing]) -> int | None:
    """See `Recommendation.more_images`; rounded up to two digits."""
    if not alike or alike[0].behind is None:
        return None
    closest = alike[0].behind
    needed = images_needed(closest.only_first, closest.only_second, LEVEL / len(alike))
    if not math.isfinite(needed):
        return None
    more = max(1, int(needed) - closest.images)
    unit = 10 ** max(0, len(str(more)) - 2)
    return -(-more // unit) * unit
