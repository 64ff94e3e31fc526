"""The gain of each purifier over another one, image by image, and the significant gains and losses in words. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from bench.analysis.references import OWN_STEP, own_steps
from bench.summary import Summary
from bench.summary.format import listed
from bench.summary.names import rows_called, series_of
from bench.summary.pairs import certified
from bench.summary.rows import named
from bench.summary.statistics import LEVEL, Difference, accuracy_difference, holm, mean_differences

_FACTS = ("run", "cell", "name", "purifier", "parameters", "sigma")
_COLUMNS = (*_FACTS, "baseline", "images", "gain", "gain_low", "gain_high", "p", "p_holm", "verdict")
HIGHER, LOWER = "significantly higher", "significantly lower"
MARKS = {HIGHER: "↑", LOWER: "↓", "": ""}


def paired_gains(summary: Summary, baseline: str | None = None, radius: float | None = None) -> pd.DataFrame:
    """The gain of each row over a baseline at its sigma, on the same images and noise.

    Without a radius, of average certified radius (paired bootstrap over images); with one, of certified accuracy there,
    as a share (Newcombe's interval, McNemar's exact test), left out if neither row's draws can certify it.
    Rows are compared within their run. Runs without the baseline are left out, and so are incomplete rows: a sequential
    certifier decides the easy images first.

    Columns: run, cell, name, purifier, parameters, sigma, baseline (its name), images (in common), gain, gain_low,
    gain_high (95 %), p (of no gain), p_holm (the same, corrected for all rows of this table), verdict (`HIGHER`,
    `LOWER`, or empty).

    Parameters:
        baseline: a purifier's display name, its label or its plugin's name; None: for each row the one step of its own
            network (`bench.analysis.references.own_steps`). Rows without one are left out.
        radius: L2, in [0,1] pixel units.

    Raises:
        ValueError: no purifier, or several, have this name; the message lists them.
    """
    table = summary.table.assign(series=named(summary)["series"])
    own = own_steps(summary) if baseline is None else {}
    baselines = table if baseline is None else table.loc[rows_called(summary.table, baseline).index]
    baselines, table = (part[part["complete"]] for part in (baselines, table))
    rows = []
    for _, row in table.iterrows():
        same = (baselines[["run", "sigma", "source"]] == row[["run", "sigma", "source"]]).all(axis=1)
        if baseline is None:
            same &= baselines["series"] == own.get(row["series"])
        base = baselines[same]
        if base.empty or row["cell"] in set(base["cell"]):
            continue
        pair = pd.DataFrame([row, base.iloc[0]])
        images, radii = certified(summary, pair)
        if not len(images) or (radius is not None and pair["largest"].max() < radius):
            continue
        found = _difference(radii, radius)
        figures = (found.images, found.effect, found.low, found.high, found.p)
        rows.append((*row[list(_FACTS)], base.iloc[0]["name"], *figures))
    return judged(pd.DataFrame(rows, columns=list(_COLUMNS[:-2])))


def _difference(radii: np.ndarray, radius: float | None) -> Difference:
    """The gain of the first of two columns of certified radii `[images, 2]`, as `paired_gains` defines it."""
    if radius is not None:
        return accuracy_difference(*(radii >= radius).T)
    won = np.maximum(radii, 0.0)
    return mean_differences(won[:, :1] - won[:, 1:])[0]


def judged(gains: pd.DataFrame) -> pd.DataFrame:
    """Add `p_holm`, of all rows whose p is known together, and `verdict`, to a table with the columns gain and p."""
    tested = gains["p"].notna()
    adjusted = pd.Series(holm(gains.loc[tested, "p"]), gains.index[tested], dtype=float).reindex(gains.index)
    words = np.where(gains["gain"] > 0, HIGHER, LOWER)
    return gains.assign(p_holm=adjusted, verdict=np.where(adjusted < LEVEL, words, ""))


def gain_sentences(gains: pd.DataFrame, than: str = OWN_STEP, per: str = "sigma") -> list[str]:
    """The significant gains and the significant losses of a table, a sentence each; both are always given.

    Parameters:
        gains: with the columns run, name, verdict and `per`.
        than: the baseline in words.
        per: `sigma` or `radius`, at which each row is read.
    """
    if gains.empty:
        return []
    gains = gains.assign(name=series_of(gains))
    return [
        f"{verdict[0].upper()}{verdict[1:]} than {than}: {'; '.join(_places(gains, verdict, per)) or 'no purifier'}."
        for verdict in (HIGHER, LOWER)
    ]


def _places(gains: pd.DataFrame, verdict: str, per: str) -> Iterator[str]:
    """The purifiers with a verdict, and where they have it: `ddpm 3 (σ = 0.5 and 1)`."""
    sign = {"sigma": "σ", "radius": "r"}[per]
    for name, rows in gains[gains["verdict"] == verdict].groupby("name", sort=False):
        yield f"{name} ({sign} = {listed((f'{value:g}' for value in sorted(set(rows[per]))), most=100)})"
