"""Each purifier at its best sigma, at every radius, and each row behind the best of its sigma. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from bench.analysis.gains import LOWER, gain_sentences, judged
from bench.analysis.references import READING, own_steps
from bench.analysis.repeats import one_of_each
from bench.analysis.standings import rank
from bench.records import COUNTED
from bench.summary import Summary
from bench.summary.pairs import certified, certifiers_of, data_sets
from bench.summary.rows import named
from bench.summary.statistics import (
    FEWEST,
    LEVEL,
    accuracy_difference,
    against_best,
    mean_differences,
    split_half,
)

MARKS_READING = "↑: significantly higher; ↓: significantly lower (5 %)."
BEST_READING = (
    "σ was chosen for each purifier and radius on these images, which favours it. Split-half: σ chosen on one half "
    "of the images, accuracy read on the other, both ways.",
    f"Gain: certified accuracy minus that of {READING}; each at its best σ; percentage points, Newcombe's 95 % "
    "interval. p: McNemar's exact test, corrected for the choice of σ (Bonferroni) and for all gains at all r (Holm).",
    "Behind: accuracy of the best minus this one's. p: corrected for the best having been chosen on these images.",
)
ACR_READING = (
    f"Gain: average certified radius (ACR) minus that of {READING}; 95 % interval. p: paired bootstrap, corrected for "
    "all gains at all σ (Holm).",
    "ACR with ↓: significantly lower than the highest at this σ, corrected for that one having been chosen on these "
    "images.",
)
_FACTS = ("run", "cell", "name", "purifier", "parameters", "radius", "sigma", "sigmas", "images", "nfe", "ms_purify")
_FIGURES = ("accuracy", "low", "high", "split_half", "behind", "behind_low", "behind_high", "p_behind")
_GAINS = ("baseline", "baseline_sigma", "gain", "gain_low", "gain_high", "p")


def best_sigmas(summary: Summary, sigmas: Sequence[float] | None = None) -> pd.DataFrame:
    """A row for each radius of the summary and each purifier whose draws can certify it, the best first.

    Complete rows with counts take part, as in `bench.analysis.recommend`. Runs of different data sets are ranked apart.

    Columns: run, cell, name, purifier, parameters, radius, sigma (certifies the most images at this radius), sigmas
    (number of those among which it was chosen), images, nfe, ms_purify;
    accuracy, low, high (share of images certified at the radius, Wilson's 95 % interval), split_half (the same with
    sigma chosen on one half of the images and read on the other, both ways; NaN for fewer than 10 images);
    behind, behind_low, behind_high, p_behind (accuracy of the best row minus this one's, as in `Standing`; 0 without
    an interval for the best, NaN if they share no images);
    baseline, baseline_sigma, gain, gain_low, gain_high, p, p_holm, verdict: accuracy minus that of the one step of the
    same network at its own best sigma, with Newcombe's interval; NaN and empty without such a purifier. p is that of
    McNemar's exact test, corrected for sigma having been chosen on the same images; p_holm for all rows of this table.

    Parameters:
        sigmas: those among which to choose, instead of all.
    """
    table = named(summary)
    table = table[table["complete"] & (table["source"] == COUNTED)]
    table, _ = one_of_each(summary, table)
    if sigmas is not None:
        table = table.loc[[any(math.isclose(sigma, s) for s in sigmas) for sigma in table["sigma"]]]
    own = own_steps(summary)
    found = [
        row
        for part in _by_run_if(len(data_sets(summary, table)) > 1, table)
        for radius in summary.radii
        for row in _at_radius(summary, part[part["largest"] >= radius], radius, own)
    ]
    gains = judged(pd.DataFrame(found, columns=[*_FACTS, *_FIGURES, *_GAINS]))
    return gains.astype({"baseline": object}).fillna({"baseline": ""})


def _by_run_if(apart: bool, table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each run, or all of them together."""
    return [part for _, part in table.groupby("run", sort=False)] if apart else [table]


def acr_behind(summary: Summary) -> pd.DataFrame:
    """How far the average certified radius of each row is behind the highest one of its sigma, on the same images.

    Complete rows with counts take part; runs of different data sets or certifiers are ranked apart.

    Columns: run, cell, name, sigma, best (the name of the highest), behind, behind_low, behind_high (paired bootstrap,
    95 %), p_behind (corrected for the best having been chosen: `against_best`).
    """
    table = named(summary)
    table = table[table["complete"] & (table["source"] == COUNTED)]
    rows = []
    for _, of_sigma in table.groupby("sigma", sort=True):
        apart = len(data_sets(summary, of_sigma)) > 1 or len(certifiers_of(of_sigma)) > 1
        for part in _by_run_if(apart, of_sigma):
            images, radii = certified(summary, part)
            if not len(images) or len(part) < 2:
                continue
            won = np.maximum(radii, 0.0)
            top = int(won.mean(axis=0).argmax())
            found = mean_differences(won[:, [top]] - won)
            p = against_best(won, top, [d.p for d in found])
            names = summary.table.loc[part.index, "name"]
            keys = zip(part["run"], part["cell"], names, part["sigma"], strict=True)
            figures = ((d.effect, d.low, d.high, p) for d, p in zip(found, p, strict=True))
            rows += [(*key, names.iloc[top], *own) for key, own in zip(keys, figures, strict=True)]
    return pd.DataFrame(rows, columns=["run", "cell", "name", "sigma", "best", *_FIGURES[4:]])


def behind_sentences(behind: pd.DataFrame, per: str = "sigma") -> list[str]:
    """The rows that are significantly lower than the best one, in a sentence; none without rows.

    Parameters:
        behind: of `acr_behind`, or of `best_sigmas` with `per="radius"`.
    """
    lower = behind.assign(verdict=np.where(behind["p_behind"] <= LEVEL, LOWER, ""))
    return gain_sentences(lower, f"the best at this {'σ' if per == 'sigma' else 'radius'}", per)[1:]


def _at_radius(
    summary: Summary, rows: pd.DataFrame, radius: float, own: dict[str, str]
) -> Iterator[tuple[object, ...]]:
    """The rows of one radius, the best first.

    Parameters:
        rows: the candidates.
        own: the reference of each series.
    """
    if rows.empty:
        return
    standings = rank(summary, rows.reset_index(drop=True), radius, "nfe")
    groups = dict(tuple(rows.groupby("series", sort=False)))
    sigma: dict[str, float] = {}
    for standing in standings:
        sigma.setdefault(standing.name, standing.option.sigma)
    for standing in standings:
        o, group = standing.option, groups[standing.name]
        if o.sigma != sigma[o.name]:
            continue
        row = group[group["sigma"] == o.sigma].iloc[0]
        facts = (*row[["run", "cell"]], summary.table.loc[row.name, "name"], o.purifier, o.parameters)
        costs = (radius, o.sigma, len(group), o.images, o.nfe, o.ms)
        behind: tuple[float, ...] = (0.0 if standing is standings[0] else math.nan, *[math.nan] * 3)
        if (d := standing.behind) is not None and standing.p is not None:
            behind = d.effect, d.low, d.high, standing.p
        figures = (o.accuracy, o.low, o.high, _split_half(summary, group, radius), *behind)
        gain: tuple[object, ...] = (None, *[math.nan] * 5)
        if (base := groups.get(own.get(o.name, ""))) is not None:
            base_sigma = sigma[base["series"].iloc[0]]
            _, radii = certified(summary, pd.concat([group, base]))
            at = list(group["sigma"]).index(o.sigma), list(base["sigma"]).index(base_sigma)
            ours, theirs = np.split(radii >= radius, [len(group)], axis=1)
            gain = summary.table.loc[base.index[0], "name"], base_sigma, *_gain(ours, theirs, at)
        yield *facts, *costs, *figures, *gain


def _split_half(summary: Summary, group: pd.DataFrame, radius: float) -> float:
    """The certified accuracy of a purifier on images that had no part in choosing its sigma."""
    images, radii = certified(summary, group)
    if len(images) < FEWEST:
        return math.nan
    hits = (radii >= radius).astype(float)
    return split_half(hits)[0] if len(group) > 1 else float(hits.mean())


def _gain(ours: np.ndarray, theirs: np.ndarray, at: tuple[int, int]) -> tuple[float, float, float, float]:
    """The gain of a purifier over another one, each at its chosen sigma, with its interval and p; NaN without images.

    p is corrected for the choice of both: the higher one must be higher than the other one at every sigma (the largest
    p counts), and p is multiplied by the number of sigmas among which the higher one was chosen (Bonferroni).

    Parameters:
        ours, theirs: bool `[images, sigmas]`, whether each image is certified, of both purifiers.
        at: the columns of the chosen sigmas.
    """
    if not len(ours):
        return (math.nan,) * 4
    first, second = ours[:, at[0]], theirs[:, at[1]]
    found = accuracy_difference(first, second)
    higher, choices, others = (first, ours, theirs) if found.effect > 0 else (second, theirs, ours)
    tests = [accuracy_difference(higher, other) for other in others.T]
    p = max(test.p if test.effect > 0 else 1.0 for test in tests)
    return found.effect, found.low, found.high, min(1.0, p * choices.shape[1])
