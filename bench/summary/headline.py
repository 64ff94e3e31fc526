"""The sigma and the radii at which purifiers are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import pandas as pd

from bench.summary.notes import rule_name, rules_of


class Metric(NamedTuple):
    """What the height of a panel shows: a column, its interval, and the radius at which it is read."""

    column: str
    low: str
    high: str
    heading: str
    percent: bool
    radius: float = 0.0

    def words(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.percent else f"{value:.3f}"


def accuracy(radius: float, sigma: float) -> Metric:
    """Certified accuracy at a radius, as a metric."""
    meaning = "correct, not abstained" if radius == 0 else "= σ" if radius == sigma else f"= {radius / sigma:.3g} σ"
    heading = f"Certified accuracy at radius {radius:g} ({meaning})"
    return Metric(f"acc@{radius:g}", f"acc_low@{radius:g}", f"acc_high@{radius:g}", heading, True, radius)


def average_radius(rows: pd.DataFrame) -> Metric:
    """The average certified radius as a metric, named after its certifier: those of different ones do not compare."""
    rules = rules_of(rows)
    made_by = f"by {rule_name(rules[0])}" if len(rules) == 1 else "by several certifiers, which do not compare"
    return Metric("acr", "acr_low", "acr_high", f"Average certified radius (ACR) {made_by}", False)


def metrics(rows: pd.DataFrame, radii: Sequence[float], sigma: float) -> list[Metric]:
    """Accuracy at radius 0, near half of sigma and near sigma, where some row can reach them; and the ACR."""
    reach = rows["largest"].max()
    reachable = [r for r in radii if r <= reach or not math.isfinite(reach)]
    positive = [r for r in reachable if r > 0]
    chosen = {min(positive, key=lambda r: abs(r - share * sigma)) for share in (0.5, 1.0)} if positive else set()
    chosen |= {r for r in reachable if r == 0}
    return [*(accuracy(r, sigma) for r in sorted(chosen)), average_radius(rows)]


def separation(rows: pd.DataFrame, metric: Metric) -> float:
    """The share of pairs of purifiers whose intervals do not meet."""
    compared = rows[(rows["family"] != "none") & ~rows["imported"]]
    spans = list(zip(compared[metric.low], compared[metric.high], strict=True))
    apart = [a[0] > b[1] or b[0] > a[1] for a, b in combinations(spans, 2)]
    return sum(apart) / len(apart) if apart else 0.0


def headline(rows: pd.DataFrame, radii: Sequence[float]) -> tuple[float, list[Metric]]:
    """The sigma and the radius that tell the purifiers apart best; of equals, the largest sigma and radius."""
    acr = average_radius(rows)
    sigma = max(sorted(rows["sigma"].unique(), reverse=True), key=lambda s: separation(rows[rows["sigma"] == s], acr))
    here = rows[rows["sigma"] == sigma]
    accuracies = metrics(here, radii, sigma)[:-1]
    away = [m for m in reversed(accuracies) if m.radius > 0] or accuracies
    return float(sigma), [*([max(away, key=lambda m: separation(here, m))] if away else []), average_radius(here)]
