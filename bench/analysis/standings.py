"""Candidates at a radius, ranked, each with what tells it from the first. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.summary.fronts import best_shares, front_shares
from bench.summary.pairs import certified
from bench.summary.statistics import FEWEST, Difference, accuracy_difference, holm, resampled_shares, wilson_interval
from bench.summary.summary import Summary


@dataclass(frozen=True)
class Option:
    """A purifier at a sigma, at the radius that was asked for.

    Attributes:
        label: the purifier and its parameters, with its run where several runs have it.
        sigma: of the smoothing noise, in [0,1] pixel units.
        accuracy, low, high: certified accuracy over all of its images, and its 95 % interval (Wilson).
        nfe: network evaluations per purified image.
        ms: milliseconds per purified image.
        images: how many.
    """

    label: str
    sigma: float
    accuracy: float
    low: float
    high: float
    nfe: float
    ms: float
    images: int


@dataclass(frozen=True)
class Standing:
    """How a candidate stands against the first of the ranking.

    Attributes:
        option: the candidate.
        name: its short name, as in tables and pictures.
        behind: the first one's certified accuracy minus its own, on the images that all candidates share, with
            Newcombe's interval and McNemar's exact p; None for the first one, and where no images are shared.
        p: that p, corrected by Holm over all candidates.
        best, on_front: share of resamples (bootstrap over images) in which it certifies the most, and in which nothing
            as cheap certifies more; None with too few images.
    """

    option: Option
    name: str
    behind: Difference | None
    p: float | None
    best: float | None
    on_front: float | None


def option_of(summary: Summary, row: pd.Series, radius: float) -> Option:
    """A row of `bench.summary.pairs.with_names` as an option, over all of its own images."""
    _, radii = summary.certified[row["run"], row["cell"]]
    hits, images = int((radii >= radius).sum()), len(radii)
    run = f" · {row['run']}" if row["shared"] else ""
    costs = float(row["nfe"]), float(row["ms_purify"])
    low, high = wilson_interval(hits, images)
    return Option(row["label"] + run, float(row["sigma"]), hits / images, low, high, *costs, images)


def rank(summary: Summary, rows: pd.DataFrame, radius: float, cost: str) -> tuple[Standing, ...]:
    """All candidates, the best first: by accuracy on the images that they share, then by cost, then by sigma.

    Parameters:
        rows: the candidates, at least one.
        cost: the column that `on_front` means.
    """
    shared, radii = certified(summary, rows)
    hits = radii >= radius
    options = [option_of(summary, row, radius) for _, row in rows.iterrows()]
    accuracy = hits.mean(axis=0) if len(shared) else np.array([option.accuracy for option in options])
    order = sorted(range(len(rows)), key=lambda i: (-accuracy[i], *(rows[c].iloc[i] for c in (cost, *TIES))))
    top, others = order[0], order[1:]
    behind = {i: accuracy_difference(hits[:, top], hits[:, i]) for i in others} if len(shared) else {}
    corrected = dict(zip(behind, holm([d.p for d in behind.values()]), strict=True))
    enough = len(shared) >= FEWEST
    means = resampled_shares(hits) if enough else None
    best = None if means is None else best_shares(means)
    on_front = None if means is None else front_shares(list(rows[cost]), means)
    return tuple(
        Standing(options[i], rows["name"].iloc[i], behind.get(i), corrected.get(i), at(best, i), at(on_front, i))
        for i in order
    )


TIES = ("nfe", "ms_purify", "sigma")


def at(shares: Sequence[float] | np.ndarray | None, i: int) -> float | None:
    return None if shares is None else float(shares[i])
