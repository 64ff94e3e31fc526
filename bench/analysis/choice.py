"""Sigma and purifier chosen on validation images and read on test images: a choice that can be deployed. Pure.

Tables and papers take, at every radius, the sigma that certifies the most test images. Nobody can deploy that: the
images that decide are the ones that are reported. A sigma that is fixed beforehand gives a certificate for every image,
and its accuracy on other images has no such bias.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import numpy as np
import pandas as pd

from bench.analysis.repeats import kind_of, one_of_each
from bench.errors import InputError
from bench.records import COUNTED, Cell
from bench.summary import Summary
from bench.summary.pairs import cells_of, certified, part_of
from bench.summary.rows import named
from bench.summary.statistics import accuracy_difference, wilson_interval

ANY = "any purifier"
_COLUMNS = (
    *("radius", "among", "name", "sigma", "seen", "seen_images", "accuracy", "low", "high", "images"),
    *("best_name", "best_sigma", "best", "cost", "cost_low", "cost_high", "p"),
)


def choices(seen: Summary, read: Summary, radii: Sequence[float] | None = None) -> pd.DataFrame:
    """At each radius, the sigma of each purifier, and of any purifier, that certifies the most images of `seen`.

    Of equally good ones the smaller sigma, which leaves more of the image, and then the lower NFE.

    Columns: radius, among (`ANY`, or the purifier whose sigma is chosen), name and sigma (what was chosen), seen (its
    certified accuracy where it was chosen), seen_images; accuracy, low, high (on the images of `read`, Wilson's 95 %
    interval), images; best_name, best_sigma, best (what certifies the most images of `read`, the envelope that papers
    report); cost, cost_low, cost_high, p (best minus accuracy, Newcombe's interval, McNemar's exact p, uncorrected,
    although the envelope is chosen on these images: its lead is partly luck).

    Parameters:
        seen: of validation images.
        read: of other images; rows of the same purifiers, networks, classifier and sigmas take part.
        radii: L2, instead of those of `read`.

    Raises:
        InputError: both have the same images, or no row in common.
    """
    rows, other = (_candidates(summary) for summary in (seen, read))
    if same := {_images(cell) for cell in cells_of(seen, rows)} & {_images(cell) for cell in cells_of(read, other)}:
        raise InputError(
            f"both runs are on the {part_of(seen, rows)} of {min(same)[0]}: choose on others, such as those of "
            "`bench run PRESET --split val --images N`"
        )
    both = rows.merge(other[["key", "run", "cell"]], on="key", suffixes=("", "_read"))
    if both.empty:
        raise InputError("the runs have no purifier with the same networks, classifier and sigma in common")
    there = both.assign(run=both["run_read"], cell=both["cell_read"])
    found = list(chain.from_iterable(_at(seen, read, both, there, r) for r in radii or read.radii))
    return pd.DataFrame(found, columns=_COLUMNS)


def _candidates(summary: Summary) -> pd.DataFrame:
    """The complete rows with counts, with a key that is equal for equal purifiers and sigmas before one classifier."""
    table = named(summary)
    table, _ = one_of_each(summary, table[table["complete"] & (table["source"] == COUNTED)])
    return table.assign(key=[(kind_of(cell, images=False), cell.sigma) for cell in cells_of(summary, table)])


def _images(cell: Cell) -> tuple[str, str, str]:
    return cell.dataset, cell.split or "test", cell.data_hash


def _at(
    seen: Summary, read: Summary, both: pd.DataFrame, there: pd.DataFrame, radius: float
) -> Iterator[tuple[object, ...]]:
    """The rows of one radius: any purifier first, then each one.

    Parameters:
        both: the rows in common, as they are in `seen`.
        there: the same ones, as they are in `read`.
    """
    able = (both["largest"] >= radius).to_numpy()
    if not able.any():
        return
    both, there = both[able].reset_index(drop=True), there[able]
    (_, first), (_, second) = certified(seen, both), certified(read, there)
    if not len(first) or not len(second):
        raise InputError("the rows of a run have no images in common: give runs that have ended")
    hits, means = second >= radius, (first >= radius).mean(axis=0)
    order = np.lexsort([both["nfe"], both["sigma"], -means])  # the last key decides first
    groups = {ANY: np.arange(len(both)), **both.groupby("series", sort=False).indices}
    for among, members in groups.items():
        use = next(i for i in order if i in members)
        best = max(members, key=lambda i: (hits[:, i].mean(), -both["sigma"][i]))
        cost, right = accuracy_difference(hits[:, best], hits[:, use]), int(hits[:, use].sum())
        yield (
            *(radius, among, both["series"][use], both["sigma"][use], means[use], len(first)),
            *(right / len(hits), *wilson_interval(right, len(hits)), len(hits)),
            *(both["series"][best], both["sigma"][best], hits[:, best].mean()),
            *(cost.effect, cost.low, cost.high, cost.p),
        )
