"""The change of one purifier at one sigma between two runs, tested image by image, and of the fronts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from bench.summary import Summary
from bench.summary.fronts import NFE_SCALE
from bench.summary.pairs import certified, comparable_radii, resampled_volume
from bench.summary.statistics import LEVEL, Difference, accuracy_difference, holm, mean_differences, percentile_interval

Pair = tuple[pd.Series, pd.Series]


@dataclass(frozen=True)
class Change:
    """A purifier at a sigma, in both runs, on the images that both have certified.

    Attributes:
        name, purifier, parameters, sigma: of the second run's row.
        radius: at which certified accuracy is read.
        images: in common.
        differing: images whose certified radius is not the same.
        accuracy: the first and the second run's.
        accuracy_change: second minus first; Newcombe's interval, McNemar's exact p.
        accuracy_p: that p, corrected by Holm over all tests of the comparison.
        acr: the first and the second run's average certified radius.
        acr_change, acr_p: of the ACR (paired bootstrap); None if certifiers differ, because ACRs do not compare then.
        nfe, ms: the first and the second run's, per purified image.
        complete: both rows are complete.
    """

    name: str
    purifier: str
    parameters: str
    sigma: float
    radius: float
    images: int
    differing: int
    accuracy: tuple[float, float]
    accuracy_change: Difference
    accuracy_p: float
    acr: tuple[float, float]
    acr_change: Difference | None
    acr_p: float | None
    nfe: tuple[float, float]
    ms: tuple[float, float]
    complete: bool

    @property
    def significant(self) -> bool:
        """Accuracy or ACR changed significantly, at 5 % over the whole comparison."""
        return min(self.accuracy_p, 1.0 if self.acr_p is None else self.acr_p) <= LEVEL


@dataclass(frozen=True)
class VolumeChange:
    """Hypervolume of the first and of the second run's front, on the images and rows that are complete in both.

    Attributes:
        volumes: average certified radius that a budget buys, averaged over budgets that are uniform on the scale.
        change, low, high: second minus first, and its 95 % interval (paired bootstrap; NaN with too few images).
        scale: in words.
        rows: number of rows (purifier and sigma) of each front.
    """

    volumes: tuple[float, float]
    change: float
    low: float
    high: float
    scale: str
    rows: int


def change_of(summary: Summary, pair: Pair, radius: float | None) -> tuple[Change, np.ndarray | None]:
    """The change of one pair, its ACR not tested yet, and the gain of each image (None if certifiers differ)."""
    a, b = pair
    images, radii = certified(summary, pd.DataFrame([a, b]))
    at = _default_radius(summary, pair) if radius is None else radius
    hits, gained = radii >= at, np.maximum(radii, 0.0)
    accuracy, acr = (both.mean(axis=0) if len(images) else np.full(2, np.nan) for both in (hits, gained))
    change = accuracy_difference(hits[:, 1], hits[:, 0])
    made = Change(
        name=b["name"],
        purifier=b["purifier"],
        parameters=b["parameters"],
        sigma=float(b["sigma"]),
        radius=at,
        images=len(images),
        differing=int((radii[:, 0] != radii[:, 1]).sum()),
        accuracy=(float(accuracy[0]), float(accuracy[1])),
        accuracy_change=change,
        accuracy_p=change.p,
        acr=(float(acr[0]), float(acr[1])),
        acr_change=None,
        acr_p=None,
        nfe=(float(a["nfe"]), float(b["nfe"])),
        ms=(float(a["ms_purify"]), float(b["ms_purify"])),
        complete=bool(a["complete"] and b["complete"]),
    )
    return made, gained[:, 1] - gained[:, 0] if a["rule"] == b["rule"] else None


def tested(changes: Sequence[tuple[Change, np.ndarray | None]]) -> list[Change]:
    """The changes with their ACRs tested, and with Holm's correction over all tests, of accuracies and ACRs together.

    Pairs with equally many images are resampled together, which is faster.
    """
    acrs: dict[int, Difference] = {}
    for images in {len(gained) for _, gained in changes if gained is not None}:
        group = {i: gained for i, (_, gained) in enumerate(changes) if gained is not None and len(gained) == images}
        acrs |= dict(zip(group, mean_differences(np.stack(list(group.values()), axis=1)), strict=True))
    count = len(changes)
    p = holm([*(change.accuracy_p for change, _ in changes), *(acr.p for acr in acrs.values())])
    acr_p = dict(zip(acrs, p[count:], strict=True))
    return [
        replace(change, accuracy_p=p[i], acr_change=acrs.get(i), acr_p=acr_p.get(i))
        for i, (change, _) in enumerate(changes)
    ]


def _default_radius(summary: Summary, pair: Pair) -> float:
    reach = min(row["largest"] for row in pair)
    half = pair[0]["sigma"] / 2
    return min((r for r in summary.radii if r <= reach), key=lambda r: (abs(r - half), -r), default=0.0)


def volume_change(summary: Summary, pairs: Sequence[Pair]) -> VolumeChange | None:
    """The change of the hypervolume; None if the radii of the rows do not compare."""
    rows = pd.DataFrame([pair[side] for side in (0, 1) for pair in pairs])
    if (radii := comparable_radii(summary, rows)) is None:
        return None
    nfe, sides = list(rows["nfe"]), (slice(len(pairs)), slice(len(pairs), None))
    # Both sides resample the same images, so the interval of their difference is a paired one.
    (before, drawn), (after, redrawn) = (resampled_volume(nfe[side], radii[:, side]) for side in sides)
    interval = percentile_interval(redrawn - drawn)
    return VolumeChange((before, after), after - before, *interval, NFE_SCALE, len(pairs))
