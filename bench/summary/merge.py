"""Runs that count the same cells, read together: each cell once, with the images and draws of all of them. Pure.

Counts are facts about draws, so equal cells have equal votes. Where they have not, one of the runs is wrong: both stay
apart, and a remark says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from bench.store import Run
from bench.summary.format import images_text, listed, number_of

_RULE = ("certifier", "n0", "n", "n_max", "alpha", "label_aware", "radius_digits", "radii")  # how counts are read
_BLOCK = ["image", "stage", "first", "draws"]


def merged(runs: Sequence[Run]) -> list[Run]:
    """The same runs, with every cell that several of them have in one of them only.

    That one is the run with the most cells. Of an image that several runs have counted, the draws of the run with the
    most are taken. Cells are not merged if the certifiers of the runs differ, because their certificates do, and if the
    runs have other pixels, labels or votes for one image.

    Returns:
        the runs in the same order and with the same names, some perhaps without cells.
    """
    owners: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, run in enumerate(runs):
        for key in run.cells:
            owners[key, _rule(run)].append(i)
    out = list(runs)
    moved: dict[tuple[int, int], list[str]] = defaultdict(list)
    for (key, _), places in owners.items():
        host, *others = sorted(places, key=lambda i: (key in runs[i].errors, -len(runs[i].cells), i))
        for donor in others:
            if key not in runs[donor].errors:
                moved[host, donor].append(key)
    for (host, donor), keys in moved.items():
        out[host], out[donor] = _moved(out[host], out[donor], keys)
    return out


def _rule(run: Run) -> str:
    preset = run.manifest.get("preset", {})
    return repr([preset.get(name) for name in _RULE])


def _moved(host: Run, donor: Run, keys: Sequence[str]) -> tuple[Run, Run]:
    """Both runs, with the counts of some cells of the donor in the host, unless they contradict each other."""
    words = f"{number_of(len(keys), 'cell')} of {donor.folder.name}"
    own, other = (run.blocks[run.blocks["cell"].isin(keys)] for run in (host, donor))
    if problem := contradiction(host, donor, own, other):
        remark = f"{words} are not merged with the same ones here, because {problem}: one of these runs is wrong"
        return replace(host, remarks=(*host.remarks, remark)), donor
    draws = {name: part.groupby(["cell", "image"])["draws"].sum() for name, part in (("own", own), ("other", other))}
    both = pd.DataFrame(draws).fillna(0)
    better = both.index[both["other"] > both["own"]]
    taken = other[pd.MultiIndex.from_frame(other[["cell", "image"]]).isin(better)]
    kept = host.blocks[~pd.MultiIndex.from_frame(host.blocks[["cell", "image"]]).isin(better)]
    labels = [run.manifest.get("labels", {}) for run in (host, donor)]
    wanted = {key: host.wanted.get(key, len(labels[0])) for key in host.cells}
    wanted |= dict.fromkeys(keys, len(labels[0] | labels[1]))
    more = len({image for _, image in better})
    what = f"; it has more draws for {images_text([more])}" if more else ""
    pixels = {**donor.manifest.get("pixels", {}), **host.manifest.get("pixels", {})}
    host = replace(
        host,
        manifest={**host.manifest, "labels": labels[1] | labels[0], "pixels": pixels},
        blocks=pd.concat([kept, taken], ignore_index=True) if len(taken) else host.blocks,
        errors={key: error for key, error in host.errors.items() if key not in keys},
        wanted=wanted,
        remarks=(*host.remarks, f"{words} are the same ones as here, and are shown once{what}"),
    )
    cells = {key: cell for key, cell in donor.cells.items() if key not in keys}
    rest = donor.blocks[~donor.blocks["cell"].isin(keys)]
    return host, replace(donor, cells=cells, blocks=rest)


def contradiction(host: Run, donor: Run, own: pd.DataFrame, other: pd.DataFrame) -> str:
    """Why two runs cannot both be right about the images and draws that they share; empty if they agree."""
    for name, words in (("labels", "other labels"), ("pixels", "other pixels")):
        first, second = (run.manifest.get(name, {}) for run in (host, donor))
        if differing := [image for image in first.keys() & second.keys() if first[image] != second[image]]:
            return f"they have {words} for image {listed(sorted(differing, key=int), 3)}"
    joined = own.merge(other, on=["cell", *_BLOCK], suffixes=("", "_other"))
    unequal = joined[[list(a) != list(b) for a, b in zip(joined["votes"], joined["votes_other"], strict=True)]]
    if len(unequal):
        return f"{number_of(len(unequal), 'block')} of {len(joined):,} have other votes"
    return ""
