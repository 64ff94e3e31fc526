"""The purifier that each purifier is compared with first: the one step of its own network. Pure."""

from __future__ import annotations

import math

from bench.records import COUNTED, Cell
from bench.summary import Summary
from bench.summary.rows import named

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
