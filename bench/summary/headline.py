"""The sigma, the radii and the costs at which purifiers are shown. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import pandas as pd

from bench.summary.cells import accuracy_columns
from bench.summary.notes import certifier_names, preferring_counts, rules_of


class Metric(NamedTuple):
    """The quantity on a vertical axis: its column, the columns of its interval, and the radius at which it is read."""

    column: str
    low: str
    high: str
    heading: str
    percent: bool
    radius: float = 0.0

    def words(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.percent else f"{value:.3f}"


class CostAxis(NamedTuple):
    """A cost: its column in a summary's table; in other tables the head and the format; its axis; and its unit."""

    column: str
    head: str
    form: str
    axis: str
    unit: str


COSTS = {
    axis.column: axis
    for axis in (
        CostAxis("nfe", "NFE", ".3g", "Network evaluations per image (NFE)", "network evaluations"),
        CostAxis("ms_purify", "ms", ".2f", "Purification, ms per image", "ms per purification"),
        CostAxis("gflops", "GFLOPs", ".3g", "Purifier and classifier, GFLOPs per vote", "GFLOPs per vote"),
        CostAxis("ms_joint", "joint ms", ".2f", "Purifier and classifier, ms per vote", "ms per vote"),
    )
}


def _accuracy(radius: float, sigma: float) -> Metric:
    """Certified accuracy at a radius, as a metric."""
    meaning = "correct, not abstained" if radius == 0 else "= σ" if radius == sigma else f"= {radius / sigma:.3g} σ"
    heading = f"Certified accuracy at radius {radius:g} ({meaning})"
    return Metric(*accuracy_columns(radius), heading, True, radius)


def _average_radius(rows: pd.DataFrame) -> Metric:
    """The average certified radius as a metric, named after its certifier: those of different ones do not compare."""
    names = certifier_names(preferring_counts(rows))
    made_by = f"by {names[0]}" if len(rules_of(rows)) == 1 else "by several certifiers, which do not compare"
    return Metric("acr", "acr_low", "acr_high", f"Average certified radius (ACR) {made_by}", False)


def _reachable(rows: pd.DataFrame, radii: Sequence[float]) -> list[float]:
    """The radii that some row can certify."""
    reach = rows["largest"].max()
    return [r for r in radii if r <= reach or not math.isfinite(reach)]


def metrics(rows: pd.DataFrame, radii: Sequence[float], sigma: float) -> list[Metric]:
    """Accuracy at radius 0, near half of sigma and near sigma, if some row can certify them; and the ACR."""
    reachable = _reachable(rows, radii)
    positive = [r for r in reachable if r > 0]
    chosen = {min(positive, key=lambda r: abs(r - share * sigma)) for share in (0.5, 1.0)} if positive else set()
    chosen |= {r for r in reachable if r == 0}
    return [*(_accuracy(r, sigma) for r in sorted(chosen)), _average_radius(rows)]


def decisive_radii(rows: pd.DataFrame, radii: Sequence[float]) -> list[float]:
    """The largest radius that some row can certify and the one nearest to its half; none if there is none above 0."""
    positive = [r for r in _reachable(rows, radii) if r > 0]
    return sorted({min(positive, key=lambda r: abs(r - max(positive) / 2)), max(positive)}) if positive else []


def at_best_sigma(rows: pd.DataFrame, radius: float) -> tuple[Metric, pd.DataFrame]:
    """Accuracy at a radius as a metric, and each purifier's row of the sigma that certifies the most there.

    The column `away` names the sigma of a row if it is not the one of most rows.

    Parameters:
        rows: of `bench.summary.rows.drawable`.
    """
    accuracy, low, high = accuracy_columns(radius)
    reaching = rows[rows[accuracy].notna()]
    best = reaching.loc[reaching.groupby("series", sort=False)[accuracy].idxmax()]
    usual = best["sigma"].mode().max()
    away = best["sigma"].map(lambda sigma: "" if sigma == usual else f" (σ {sigma:g})")
    unless = ", unless named" if (best["sigma"] != usual).any() else ""
    heading = f"Certified accuracy at radius {radius:g} (σ = {usual:g}{unless})"
    return Metric(accuracy, low, high, heading, True, radius), best.assign(away=away)


def _separation(rows: pd.DataFrame, metric: Metric) -> float:
    """The share of pairs of purifiers whose intervals do not overlap."""
    compared = rows[(rows["family"] != "none") & ~rows["imported"]]
    spans = list(zip(compared[metric.low], compared[metric.high], strict=True))
    apart = [a[0] > b[1] or b[0] > a[1] for a, b in combinations(spans, 2)]
    return sum(apart) / len(apart) if apart else 0.0


def headline(rows: pd.DataFrame, radii: Sequence[float]) -> tuple[float, list[Metric]]:
    """The sigma and the metrics that separate the purifiers best: accuracy at one radius, and the ACR.

    Of equally good ones, the largest sigma and the largest radius.

    Parameters:
        rows: of `bench.summary.rows.drawable`.
    """
    acr = _average_radius(rows)
    sigma = max(sorted(rows["sigma"].unique(), reverse=True), key=lambda s: _separation(rows[rows["sigma"] == s], acr))
    here = rows[rows["sigma"] == sigma]
    accuracies = metrics(here, radii, sigma)[:-1]
    positive = [m for m in reversed(accuracies) if m.radius > 0] or accuracies
    best = [max(positive, key=lambda m: _separation(here, m))] if positive else []
    return float(sigma), [*best, _average_radius(here)]
