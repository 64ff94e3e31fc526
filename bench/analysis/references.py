"""What a purifier is compared with first: the one step of its own network, and plain smoothing. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from bench.records import COUNTED, Cell
from bench.summary import Summary
from bench.summary.format import p_text, percent
from bench.summary.names import series_of
from bench.summary.palette import OWN_CLASSIFIER, PLAIN
from bench.summary.rows import named
from bench.summary.statistics import LEVEL

OWN_STEP = "the one step of the same network"
READING = f"{OWN_STEP}; for the one step of a tuned network, that of its start (edm-ft: edm, cm-ft: cm)"

_Networks = tuple[tuple[str, str], ...]  # roles and fingerprints of weights
_Place = tuple[str, str]  # run and classifier


def own_steps(summary: Summary) -> dict[str, str]:
    """The reference of each series that has one; both are series of `bench.summary.rows.named`, of one run.

    The one step of some networks is the purifier that evaluates each of them once (NFE = number of networks); of
    several, the one with the fewest parameters. It is the reference of all other purifiers of these networks, with the
    same weights, before the same classifier. The one step of networks that were tuned is compared with the one step of
    their start: the role of a tuned network is the role of its start, a hyphen, and a word for the tuning.
    """
    table = named(summary)
    rows = table[table["complete"] & (table["source"] == COUNTED)].drop_duplicates("series")
    cells = [summary.cells[key] for key in zip(rows["run"], rows["cell"], strict=True)]
    facts = [
        ((run, cell.classifier_text), series, networks, nfe, len(cell.parameters))
        for run, series, nfe, cell in zip(rows["run"], rows["series"], rows["nfe"], cells, strict=True)
        if (networks := _networks_of(cell))
    ]
    one_step: dict[tuple[_Place, _Networks], str] = {}
    of_roles: dict[tuple[_Place, tuple[str, ...]], str] = {}
    for place, series, networks, nfe, _ in sorted(facts, key=lambda fact: fact[-1]):
        if math.isclose(nfe, len(networks)):
            one_step.setdefault((place, networks), series)
            of_roles.setdefault((place, tuple(role for role, _ in networks)), series)
    references = {}
    for place, series, networks, _, _ in facts:
        reference = one_step.get((place, networks))
        if reference == series:
            roles = tuple(role for role, _ in networks)
            start = tuple(role.partition("-")[0] for role in roles)
            reference = of_roles.get((place, start)) if start != roles else None
        if reference is not None:
            references[series] = reference
    return references


def _networks_of(cell: Cell) -> _Networks:
    """The roles of a cell's networks with the fingerprints of their weights, by role."""
    prefix = "network "
    return tuple(sorted((k.removeprefix(prefix), v) for k, v in cell.hashes.items() if k.startswith(prefix)))


class Contender(NamedTuple):
    """A candidate at one radius: its name, family and certified accuracy, and the p of its distance from the first."""

    name: str
    family: str
    accuracy: float
    p: float | None


def worth(contenders: Sequence[Contender], radius: float) -> str:
    """Whether a purifier is worth having at a radius, in a sentence.

    Empty if plain smoothing competes only with the classifier of the purifiers, which may never have seen noise, and
    without purifiers.

    Parameters:
        contenders: the best first, each perhaps at several sigmas.
    """
    plain = [c for c in contenders if c.family in (PLAIN, OWN_CLASSIFIER)]
    purifiers = [c for c in contenders if c not in plain]
    if not purifiers or OWN_CLASSIFIER not in {c.family for c in plain} or not contenders[0].accuracy > 0:
        return ""
    first, second = plain[0], purifiers[0]
    smoothing = f"plain smoothing, {first.name} ({percent(first.accuracy)})"
    if contenders[0] is second:
        found = f"{second.name} ({percent(second.accuracy)})"
        p = first.p
        if p is not None and p <= LEVEL:
            return f"At radius {radius:g} a purifier pays: {found} certifies more than {smoothing}; p {_p(p)}."
        tested = "" if p is None else f"; p {_p(p)}"
        return (
            f"At radius {radius:g} no purifier is shown to pay: {smoothing}, is not significantly worse than the "
            f"best of them, {found}{tested}."
        )
    best = f"the best purifier, {second.name} ({percent(second.accuracy)})"
    if second.p is not None and second.p <= LEVEL:
        return f"At radius {radius:g} no purifier pays: {smoothing}, certifies more than {best}; p {_p(second.p)}."
    return f"At radius {radius:g} no purifier is shown to pay: {best}, certifies no more than {smoothing}."


def _p(p: float) -> str:
    """`< 0.001`, `= 0.02`."""
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def worth_sentences(summary: Summary, best: pd.DataFrame) -> list[str]:
    """`worth` at each radius, largest ones last.

    Parameters:
        best: of `bench.analysis.best.best_sigmas`.
    """
    if best.empty or len({*best["run"]}) > 1:  # several runs may have several data sets, each with a best row
        return []
    families = dict(zip(summary.table["cell"], summary.table["family"], strict=True))
    best = best.assign(series=series_of(best), family=best["cell"].map(families))
    sentences = []
    for radius, rows in best.groupby("radius"):
        facts = zip(rows["series"], rows["family"], rows["accuracy"], rows["p_behind"], strict=True)
        sentences.append(worth([Contender(n, f, a, None if math.isnan(p) else p) for n, f, a, p in facts], radius))
    return [sentence for sentence in sentences if sentence]
