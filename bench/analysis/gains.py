"""How much each purifier gains over a baseline, image by image. Pure."""

from __future__ import annotations

import pandas as pd

from bench.analysis.statistics import mean_interval
from bench.summary import Summary


def paired_gains(summary: Summary, baseline: str) -> pd.DataFrame:
    """How much more average certified radius each row has than a baseline at its sigma, on the same images and noise.

    Rows are compared within their run; those of a run without the baseline are left out.

    Columns: run, sigma, label, images (in common), gain, gain_low, gain_high (paired bootstrap over images, 95 %).

    Parameters:
        baseline: a purifier's label, or its name where that is enough.

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
    certificates = summary.certificates
    gained = certificates["radius"].where(certificates["correct"].astype(bool), 0.0)
    radii = dict(iter(gained.groupby([certificates["run"], certificates["cell"]])))
    images = certificates["image"]
    rows = []
    for _, row in table.iterrows():
        other = named[
            (named["sigma"] == row["sigma"]) & (named["run"] == row["run"]) & (named["source"] == row["source"])
        ]
        if not len(other) or (row["run"], row["cell"]) not in radii or row["cell"] in set(other["cell"]):
            continue
        pair = [radii.get((r["run"], r["cell"]), gained.iloc[:0]) for r in (row, other.iloc[0])]
        mine, base = (values.set_axis(images[values.index]) for values in pair)
        difference = (mine - base).dropna().to_numpy()
        if len(difference):
            low, high = mean_interval(difference)
            gain = {"images": len(difference), "gain": difference.mean(), "gain_low": low, "gain_high": high}
            rows.append({"run": row["run"], "sigma": row["sigma"], "label": row["label"], **gain})
    return pd.DataFrame(rows, columns=["run", "sigma", "label", "images", "gain", "gain_low", "gain_high"])
