"""The gain of each purifier over a baseline, image by image. Pure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.summary import Summary
from bench.summary.names import rows_called
from bench.summary.pairs import certified
from bench.summary.statistics import accuracy_difference, holm, mean_differences

_COLUMNS = (
    *("run", "cell", "name", "purifier", "parameters", "sigma"),
    *("images", "gain", "gain_low", "gain_high", "p", "p_holm"),
)


def paired_gains(summary: Summary, baseline: str, radius: float | None = None) -> pd.DataFrame:
    """The gain of each row over a baseline at its sigma, on the same images and noise.

    Without a radius, of average certified radius (paired bootstrap over images); with one, of certified accuracy there,
    as a share (Newcombe's interval, McNemar's exact test), left out if neither row's draws can certify it.
    Rows are compared within their run. Runs without the baseline are left out, and so are incomplete rows: a sequential
    certifier decides the easy images first.

    Columns: run, cell, name, purifier, parameters, sigma, images (in common), gain, gain_low, gain_high (95 %), p (of
    no gain), p_holm (the same, corrected for all rows of this table).

    Parameters:
        baseline: a purifier's display name, its label or its plugin's name.
        radius: L2, in [0,1] pixel units.

    Raises:
        ValueError: no purifier, or several, have this name; the message lists them.
    """
    baselines = rows_called(summary.table, baseline)
    baselines, table = (part[part["complete"]] for part in (baselines, summary.table))
    rows = []
    for _, row in table.iterrows():
        same = (baselines[["run", "sigma", "source"]] == row[["run", "sigma", "source"]]).all(axis=1)
        base = baselines[same]
        if base.empty or row["cell"] in set(base["cell"]):
            continue
        pair = pd.DataFrame([row, base.iloc[0]])
        images, radii = certified(summary, pair)
        if not len(images) or (radius is not None and pair["largest"].max() < radius):
            continue
        if radius is None:
            won = np.maximum(radii, 0.0)
            (difference,) = mean_differences(won[:, :1] - won[:, 1:])
        else:
            difference = accuracy_difference(*(radii >= radius).T)
        figures = (difference.images, difference.effect, difference.low, difference.high, difference.p)
        rows.append((*row[list(_COLUMNS[:6])], *figures))
    adjusted = holm([row[-1] for row in rows])
    return pd.DataFrame([(*row, p) for row, p in zip(rows, adjusted, strict=True)], columns=list(_COLUMNS))
