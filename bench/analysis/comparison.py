"""Two runs of the same purifiers, image by image: the changes between them, tested against chance. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import pandas as pd

from bench.analysis.changes import Change, Pair, VolumeChange, change_of, tested, volume_change
from bench.errors import PurifyBenchError
from bench.records import Cell
from bench.summary import Summary
from bench.summary.format import listed, number_of
from bench.summary.notes import unfinished
from bench.summary.pairs import cells_of, data_sets, identities_compare, identity, settings

_UNKNOWN = "not recorded"
_RECORDED_DIFFERENTLY = (
    "identities were recorded in different ways (an earlier version of purifybench), so code and weights are not "
    "compared"
)


class CompareError(PurifyBenchError, ValueError):
    """Two runs cannot be compared; the message says why and the remedy."""


@dataclass(frozen=True)
class Comparison:
    """The changes from a first run to a second one.

    Attributes:
        first, second: the runs' names.
        same_noise: all pairs saw the same draws of noise: the same seed, and the same code that makes them; None if the
            seed is the same and the code cannot be compared.
        differs: settings, code and weights that decide the counts and are not the same in both, in words.
        changes: a row for each purifier and sigma that both runs have.
        only_first, only_second: rows without a counterpart.
        volume: None if no rows are complete in both runs, or their certifiers differ.
        notes: further warnings for a reader.
    """

    first: str
    second: str
    same_noise: bool | None
    differs: tuple[str, ...]
    changes: tuple[Change, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    volume: VolumeChange | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """The result of the comparison, in a sentence."""
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
        radius: at which certified accuracy is read; without it, for each sigma, the radius of the summary that is
            nearest to half of sigma and that the draws can certify.

    Raises:
        CompareError: the runs have no purifier and sigma, or no images, in common.
    """
    table = summary.table
    if table.empty:
        raise CompareError("nothing is certified yet in these runs; make them with `bench run`")
    runs = [table[table["run"] == name] for name in (first, second)]
    pairs = list(_partners(*runs))
    if not pairs:
        has = [listed(dict.fromkeys(f"{r['name']} at σ = {r['sigma']:g}" for _, r in run.iterrows())) for run in runs]
        raise CompareError(
            f"{first} and {second} have no purifier and σ in common: the first has {has[0] or 'nothing'}, the second "
            f"{has[1] or 'nothing'}"
        )
    # Pair by pair: logs of other data sets may lie beside the counts of both.
    if several := next((found for pair in pairs if len(found := data_sets(summary, pd.DataFrame(pair))) > 1), []):
        raise CompareError(f"{first} and {second} certify different images: {listed(several)}")
    compared = [pair for pair in pairs if all(row["images"] > 0 for row in pair)]
    changes = tested([change_of(summary, pair, radius) for pair in compared])
    if compared and not any(change.images for change in changes):
        raise CompareError(f"{first} and {second} have certified no image in common: run both with the same --images")
    noises = {_same_noise(summary, pair) for pair in pairs}
    return Comparison(
        first=first,
        second=second,
        same_noise=False if False in noises else None if None in noises else True,
        differs=tuple(_differences(summary, pairs)),
        changes=tuple(changes),
        only_first=_alone(runs[0], [a for a, _ in pairs]),
        only_second=_alone(runs[1], [b for _, b in pairs]),
        volume=volume_change(summary, [pair for pair in compared if all(row["complete"] for row in pair)]),
        notes=(*_remarks(pairs), *summary.remarks),
    )


def _partners(first: pd.DataFrame, second: pd.DataFrame) -> Iterator[Pair]:
    """Pairs of rows with the same purifier, parameters and sigma; then the only ones left of a purifier and sigma.

    The latter have parameters that were changed, or that the second version has added.
    """
    left, right = ({row["cell"]: row for _, row in run.iterrows()} for run in (first, second))
    for columns in (["purifier", "parameters", "sigma", "source"], ["purifier", "sigma", "source"]):
        groups: dict[tuple, list[list[str]]] = {}
        for side, rows in enumerate((left, right)):
            for cell, row in rows.items():
                groups.setdefault(tuple(row[columns]), [[], []])[side].append(cell)
        for before, after in groups.values():
            if len(before) == len(after) == 1:
                yield left.pop(before[0]), right.pop(after[0])


def _same_noise(summary: Summary, pair: Pair) -> bool | None:
    """See `Comparison.same_noise`; False if the code of the noise is not recorded."""
    cells = cells_of(summary, pd.DataFrame(pair))
    if not cells or (cells[0].seed, cells[0].noise) != (cells[1].seed, cells[1].noise):
        return False
    if not identities_compare(cells):
        return None
    before, after = ({k: v for k, v in identity(cell).items() if "the noise" in k} for cell in cells)
    return bool(before) and before == after


def _differences(summary: Summary, pairs: Sequence[Pair]) -> list[str]:
    """The facts that are not the same in all pairs: both values (hashes: that they differ), and of which purifiers.

    Without names of purifiers, all of them are meant.
    """
    lines: dict[str, list[str]] = {}
    for pair in pairs:
        for line in _pair_differences(summary, pair):
            lines.setdefault(line, []).append(pair[1]["name"])
    whole = {line for line, names in lines.items() if len(names) == len(pairs)} | {_RECORDED_DIFFERENTLY}
    return [line if line in whole else f"{line} (of {listed(dict.fromkeys(names))})" for line, names in lines.items()]


def _pair_differences(summary: Summary, pair: Pair) -> Iterator[str]:
    """The facts that decided the figures of both rows of a pair and are not the same, a line each."""
    if cells := cells_of(summary, pd.DataFrame(pair)):
        yield from _unequal(cells, settings)
        if identities_compare(cells):
            yield from _unequal(cells, identity, hashed=True)
        else:
            yield _RECORDED_DIFFERENTLY
    for column, fact in (("rule", "certifier"), ("device", "device (times do not compare)")):
        a, b = (row[column] for row in pair)
        if a != b and not (pd.isna(a) and pd.isna(b)):
            yield f"{fact}: {' → '.join(_UNKNOWN if pd.isna(value) else value for value in (a, b))}"


def _unequal(cells: Sequence[Cell], facts_of: Callable[[Cell], dict[str, str]], hashed: bool = False) -> Iterator[str]:
    """The facts that two cells do not share, as `fact: before → after`; of two hashes, only that they differ."""
    a, b = (facts_of(cell) for cell in cells)
    for fact in dict.fromkeys([*a, *b]):
        values = a.get(fact, _UNKNOWN), b.get(fact, _UNKNOWN)
        if values[0] != values[1]:
            hashes = hashed and _UNKNOWN not in values and not fact.startswith("version")
            yield f"{fact}: {'differs' if hashes else ' → '.join(values)}"


def _alone(run: pd.DataFrame, paired: Sequence[pd.Series]) -> tuple[str, ...]:
    """The rows without a counterpart, a text for each purifier: `sde 3 at σ = 0.5 and 1`."""
    cells = {row["cell"] for row in paired}
    rest = run[[cell not in cells for cell in run["cell"]]]
    return tuple(
        f"{name} at σ = {listed(f'{sigma:g}' for sigma in rows['sigma'])}"
        for name, rows in rest.groupby("name", sort=False)
    )


def _remarks(pairs: Sequence[Pair]) -> list[str]:
    """Warnings of rows that failed or are incomplete, and of certifiers that differ."""
    lines = []
    for side, which in enumerate(("first", "second")):
        failed, partial, biased = unfinished(pd.DataFrame([pair[side] for pair in pairs]).infer_objects())
        if len(failed):
            lines.append(f"failed in the {which} run: {listed(failed['name'].unique())}")
        if len(partial):
            lines.append(f"incomplete in the {which} run: {listed(partial['name'].unique())}{biased and f'; {biased}'}")
    if any(pair[0]["rule"] != pair[1]["rule"] for pair in pairs):
        lines.append("certifiers differ: ACRs do not compare, and a change of accuracy may be the certifier's")
    return lines
