"""Candidates at a radius, ranked, each compared with the first one. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.summary import Summary
from bench.summary.fronts import best_shares, front_shares
from bench.summary.pairs import certified
from bench.summary.statistics import (
    FEWEST,
    Difference,
    accuracy_difference,
    against_best,
    resampled_shares,
    wilson_interval,
)

_FIELDS = {"ms_purify": "ms"}  # column of a summary's table -> attribute


@dataclass(frozen=True)
class Option:
    """A purifier at a sigma, read at one radius.

    Attributes:
        name: display name, with its run if several runs have the purifier.
        purifier, parameters: the plugin's name, and its parameters as text.
        sigma: of the smoothing noise, in [0,1] pixel units.
        accuracy, low, high: certified accuracy over all of its images, and its 95 % interval (Wilson).
        nfe: network evaluations per purified image.
        ms: milliseconds per purified image.
        gflops: 10^9 floating-point operations per vote, of purifier and classifier; NaN if they were not counted.
        ms_joint: milliseconds per vote, of both.
        images: their number.
        run, cell: of its row.
    """

    name: str
    purifier: str
    parameters: str
    sigma: float
    accuracy: float
    low: float
    high: float
    nfe: float
    ms: float
    gflops: float
    ms_joint: float
    images: int
    run: str = ""
    cell: str = ""

    def cost(self, column: str) -> float:
        """The cost in a column of the summary's table."""
        return float(getattr(self, _FIELDS.get(column, column)))


@dataclass(frozen=True)
class Standing:
    """How a candidate stands against the first of the ranking.

    Attributes:
        option: the candidate.
        behind: the first one's certified accuracy minus its own, on the images that all candidates share, with
            Newcombe's interval and McNemar's exact p; None for the first one, and if no images are shared.
        p: that p, corrected for the first one having been chosen on the same images (`against_best`).
        best, on_front: share of resamples (bootstrap over images) in which it certifies the most, and in which nothing
            as cheap certifies more; None with too few images.
    """

    option: Option
    behind: Difference | None
    p: float | None
    best: float | None
    on_front: float | None

    @property
    def name(self) -> str:
        return self.option.name


def _option_of(summary: Summary, row: pd.Series, radius: float) -> Option:
    """A row of `bench.summary.rows.named` as an option, over all of its own images."""
    _, radii = summary.certified[row["run"], row["cell"]]
    hits, images = int((radii >= radius).sum()), len(radii)
    nfe, ms, gflops, joint = (float(row[column]) for column in ("nfe", "ms_purify", "gflops", "ms_joint"))
    low, high = wilson_interval(hits, images)
    names = row["series"], row["purifier"], row["parameters"]
    costs = nfe, ms, gflops, joint
    place = {"run": row["run"], "cell": row["cell"]}
    return Option(*names, float(row["sigma"]), hits / images, low, high, *costs, images, **place)


def rank(summary: Summary, rows: pd.DataFrame, radius: float, cost: str) -> tuple[Standing, ...]:
    """All candidates, the best first: by accuracy on the images that they share, then by cost, then by sigma.

    Parameters:
        rows: the candidates, at least one.
        cost: the column of the costs of `on_front`.
    """
    shared, radii = certified(summary, rows)
    hits = radii >= radius
    options = [_option_of(summary, row, radius) for _, row in rows.iterrows()]
    accuracy = hits.mean(axis=0) if len(shared) else np.array([option.accuracy for option in options])
    ties = rows[[cost, "nfe", "ms_purify", "sigma"]].to_numpy().tolist()
    order = sorted(range(len(rows)), key=lambda i: (-accuracy[i], *ties[i]))
    top, others = order[0], order[1:]
    behind = {i: accuracy_difference(hits[:, top], hits[:, i]) for i in others} if len(shared) else {}
    alone = [behind[i].p if i in behind else 1.0 for i in range(len(rows))]
    corrected = against_best(hits, top, alone)
    best: list[float | None] = [None] * len(rows)
    on_front = best
    if len(shared) >= FEWEST:
        means = resampled_shares(hits)
        best, on_front = best_shares(means).tolist(), front_shares(list(rows[cost]), means).tolist()
    p = {i: corrected[i] for i in behind}
    return tuple(Standing(options[i], behind.get(i), p.get(i), best[i], on_front[i]) for i in order)
