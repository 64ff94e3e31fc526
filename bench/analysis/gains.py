"""How much each purifier gains over a baseline, image by image. Pure."""

from __future__ import annotations

import numpy as np
import pandas as pd

from bench.summary.pairs import certified
from bench.summary.statistics import accuracy_difference, holm, mean_differences
from bench.summary.summary import Summary

COLUMNS = ("run", "sigma", "label", "images", "gain", "gain_low", "gain_high", "p", "p_holm")


def paired_gains(summary: Summary, baseline: str, radius: float | None = None) -> pd.DataFrame:
    """How much more each row certifies than a baseline at its sigma, on the same images and noise.

    Without a radius, of average certified radius (paired bootstrap over images); with one, of certified accuracy there,
    as a share (Newcombe's interval, McNemar's exact test), left out where neither row's draws can reach it.
    Rows are compared within their run; those of a run without the baseline are left out, and so are unfinished ones: a
    sequential certifier decides the easy images first.

    Columns: run, sigma, label, images (in common), gain, gain_low, gain_high (95 %), p (of no gain), p_holm (the same,
    corrected for all rows of this table).

    Parameters:
        baseline: a purifier's label, or its name where that is enough.
        radius: L2, in [0,1] pixel units.

    Raises:
        ValueError: no row is called that; the message lists the rows.
    """
    table = summary.table
    named = table[(table["label"] == baseline) | (table["purifier"] == baseline)]
    if named.empty:
        raise ValueError(
            f"no purifier {baseline!r} in these runs; there are: {', '.join(dict.fromkeys(table['label']))}"
        )
    if named["label"].nunique() > 1:
        raise ValueError(f"{baseline!r} could be any of: {', '.join(dict.fromkeys(named['label']))}; give one of them")
    table, named = (part[part["images"] >= part["wanted"]] for part in (table, named))
    rows = []
    for _, row in table.iterrows():
        base = named[
            (named["sigma"] == row["sigma"]) & (named["run"] == row["run"]) & (named["source"] == row["source"])
        ]
        if base.empty or row["cell"] in set(base["cell"]):
            continue
        pair = pd.DataFrame([row, base.iloc[0]])
        images, radii = certified(summary, pair)
        if not len(images) or (radius is not None and pair["largest"].max() < radius):
            continue
        if radius is None:
            won = np.maximum(radii, 0.0)
            (found,) = mean_differences(won[:, :1] - won[:, 1:])
        else:
            found = accuracy_difference(*(radii >= radius).T)
        gain = (found.images, found.effect, found.low, found.high, found.p)
        rows.append((row["run"], row["sigma"], row["label"], *gain))
    adjusted = holm([row[-1] for row in rows])
    return pd.DataFrame([(*row, p) for row, p in zip(rows, adjusted, strict=True)], columns=list(COLUMNS))
