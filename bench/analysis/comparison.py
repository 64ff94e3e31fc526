"""Two runs of the same purifiers, image by image: what changed between them, and is it more than chance? Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis.changes import Change, Pair, VolumeChange, change_of, corrected, tested, volume_change
from bench.errors import PurifyBenchError
from bench.summary.names import short_names
from bench.summary.pairs import cell_of, data_sets, facts, listed, number_of, with_names
from bench.summary.summary import Summary

UNKNOWN = "not recorded"
NOISE = ("seed of the noise", "code of the noise")


class CompareError(PurifyBenchError, ValueError):
    """Two runs cannot be compared; the message says why and the remedy."""


@dataclass(frozen=True)
class Comparison:
    """What changed from a first run to a second one.

    Attributes:
        first, second: the runs' names.
        same_noise: every pair saw the same draws of noise: the same seed, and the same code that makes them.
        differs: what decided the counts and is not the same in both, in words.
        changes: a row for each purifier and sigma that both runs have.
        only_first, only_second: rows without a counterpart.
        volume: None where no rows are complete in both runs, or their certifiers differ.
        notes: what else a reader must know.
    """

    first: str
    second: str
    same_noise: bool
    differs: tuple[str, ...]
    changes: tuple[Change, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    volume: VolumeChange | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """What changed, in a sentence."""
        rows = number_of(len(self.changes), "row")
        if not self.changes:
            return "There is nothing to compare: no row is certified in both runs."
        if not any(change.differing for change in self.changes):
            return f"Nothing changed: every image has the same certified radius in both runs ({rows})."
        clear = [f"{change.name} at σ = {change.sigma:g}" for change in self.changes if change.significant]
        if not clear:
            return f"No change in {rows} is more than chance explains."
        return f"{len(clear)} of {rows} changed by more than chance explains: {listed(clear)}."


def compare(summary: Summary, first: str, second: str, radius: float | None = None) -> Comparison:
    """Compare two runs of a summary, by purifier and sigma.

    Parameters:
        first, second: names of its runs.
        radius: at which certified accuracy is read; without it, for each sigma, that of the summary's radii which lies
            nearest to half of it and within reach of the draws.

    Raises:
        CompareError: nothing in the two runs belongs together, or they have no images in common.
    """
    table = with_names(summary)
    if table.empty:
        raise CompareError("nothing is certified yet in these runs; make them with `bench run`")
    runs = [table[table["run"] == name] for name in (first, second)]
    pairs = list(partners(*runs))
    if not pairs:
        has = [listed(dict.fromkeys(f"{r['label']} at σ = {r['sigma']:g}" for _, r in run.iterrows())) for run in runs]
        raise CompareError(
            f"{first} and {second} have no purifier and σ in common: the first has {has[0] or 'nothing'}, the second "
            f"{has[1] or 'nothing'}"
        )
    if len(several := data_sets(summary, pd.DataFrame([row for pair in pairs for row in pair]))) > 1:
        raise CompareError(f"{first} and {second} certify different images: {listed(several)}")
    compared = [pair for pair in pairs if all(row["images"] > 0 for row in pair)]
    changes = corrected(tested([change_of(summary, pair, radius) for pair in compared]))
    if compared and not any(change.images for change in changes):
        raise CompareError(f"{first} and {second} have certified no image in common: run both with the same --images")
    return Comparison(
        first=first,
        second=second,
        same_noise=all(agree(summary, pair, NOISE) for pair in pairs),
        differs=tuple(differences(summary, pairs)),
        changes=tuple(changes),
        only_first=alone(runs[0], [a for a, _ in pairs]),
        only_second=alone(runs[1], [b for _, b in pairs]),
        volume=volume_change(summary, [pair for pair in compared if all(row["complete"] for row in pair)]),
        notes=tuple(remarks(pairs)),
    )


def partners(first: pd.DataFrame, second: pd.DataFrame) -> Iterator[Pair]:
    """Rows that belong together: of one label and sigma; else the only ones left of a purifier's name and sigma.

    The latter are those whose parameters were changed, or to which the second version has added one.
    """
    left, right = ({row["cell"]: row for _, row in run.iterrows()} for run in (first, second))
    for columns in (["label", "sigma", "source"], ["purifier", "sigma", "source"]):
        groups: dict[tuple, list[list[str]]] = {}
        for side, rows in enumerate((left, right)):
            for cell, row in rows.items():
                groups.setdefault(tuple(row[columns]), [[], []])[side].append(cell)
        for mine, others in groups.values():
            if len(mine) == len(others) == 1:
                yield left.pop(mine[0]), right.pop(others[0])


def cell_facts(summary: Summary, row: pd.Series) -> dict[str, str]:
    """All that decided the figures of a row, by what a person calls it."""
    cell = cell_of(summary, row)
    device = {} if pd.isna(row.get("device")) else {"device (times do not compare)": row["device"]}
    return {**(facts(cell) if cell else {}), "certifier": row["rule"], **device}


def agree(summary: Summary, pair: Pair, names: Sequence[str]) -> bool:
    """Whether both rows are known to have these facts in common."""
    a, b = (cell_facts(summary, row) for row in pair)
    return all(name in a and a.get(name) == b.get(name) for name in names)


def differences(summary: Summary, pairs: Sequence[Pair]) -> list[str]:
    """What is not the same in all pairs: both values (of code and weights: that they differ), and of which purifiers.

    Where no purifiers are named, it is all of them.
    """
    found: dict[tuple[str, str], list[str]] = {}
    names = short_names(summary.table)
    for pair in pairs:
        a, b = (cell_facts(summary, row) for row in pair)
        for fact in dict.fromkeys([*a, *b]):
            values = a.get(fact, UNKNOWN), b.get(fact, UNKNOWN)
            if values[0] != values[1]:
                hashed = ("code" in fact or "weights" in fact) and UNKNOWN not in values
                how = "differs" if hashed else " → ".join(values)
                found.setdefault((fact, how), []).append(names[pair[1]["label"]])
    return [
        f"{fact}: {how}" + ("" if len(whose) == len(pairs) else f" (of {listed(dict.fromkeys(whose))})")
        for (fact, how), whose in found.items()
    ]


def alone(run: pd.DataFrame, paired: Sequence[pd.Series]) -> tuple[str, ...]:
    """The rows without a counterpart, a purifier each: `sde(steps=3) at σ = 0.5 and 1`."""
    known = {row["cell"] for row in paired}
    rest = run[[cell not in known for cell in run["cell"]]]
    return tuple(
        f"{label} at σ = {listed(f'{sigma:g}' for sigma in mine['sigma'])}"
        for label, mine in rest.groupby("label", sort=False)
    )


def remarks(pairs: Sequence[Pair]) -> list[str]:
    """What a reader must know of pairs that are not whole."""
    said = []
    for side, which in enumerate(("first", "second")):
        rows = [pair[side] for pair in pairs]
        failed = [row["name"] for row in rows if not pd.isna(row["error"])]
        partial = [row for row in rows if pd.isna(row["error"]) and not row["complete"]]
        if failed:
            said.append(f"failed in the {which} run: {listed(dict.fromkeys(failed))}")
        if partial:
            biased = any(str(row["rule"]).startswith("sequential") for row in partial)
            easy = "; a sequential rule decides easy images first, so these figures are biased" if biased else ""
            said.append(f"incomplete in the {which} run: {listed(dict.fromkeys(row['name'] for row in partial))}{easy}")
    if any(pair[0]["rule"] != pair[1]["rule"] for pair in pairs):
        said.append("certifiers differ: ACRs do not compare, and a change of accuracy may be the certifier's")
    return said
