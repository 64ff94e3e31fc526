"""Benchmarks: runs whose figures compare, because data set, images, classifier, rule and kind of noise are equal."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from bench.board.submission import Submission
from bench.certify import of_sweep
from bench.records import Cell, label_of, parameters_text
from bench.store import Run
from bench.summary import Summary, run_names, summarise
from bench.summary.merge import contradiction

_WEIGHTS, _CODE = "classifier weights", "classifier"  # of a cell's hashes
_ANY = 1.0  # a sigma at which rules are compared: fine grids of radii depend on it


@dataclass(frozen=True)
class Benchmark:
    """Submissions whose figures may stand in one table.

    Attributes:
        key: eight hexadecimal digits of a hash of all that must be equal.
        data: title of the data set.
        dataset, part: its name, and the part of it: `test`.
        images: their number.
        classifier: with its parameters; empty if every row names its own.
        weights: hash of its weights; may be empty.
        rule: the certifier with its constants, as the first run states it.
        noise: `gaussian` or `discrete`.
        submissions: the most verified ones first.
    """

    key: str
    data: str
    dataset: str
    part: str
    images: int
    classifier: str
    weights: str
    rule: str
    noise: str
    submissions: tuple[Submission, ...]

    @cached_property
    def summary(self) -> Summary:
        """All rows. Equal cells of several runs stay apart: each row belongs to one submission and its evidence."""
        return summarise([submission.run for submission in self.submissions])

    @cached_property
    def runs(self) -> dict[str, Submission]:
        """The submissions by their names in the summary."""
        return dict(zip(run_names([s.run for s in self.submissions]), self.submissions, strict=True))

    @cached_property
    def contradictions(self) -> list[str]:
        """Pairs of runs that count the same blocks and have other votes, in sentences."""
        found = []
        for (first, a), (second, b) in combinations(self.runs.items(), 2):
            keys = a.run.cells.keys() & b.run.cells.keys()
            own, other = (s.run.blocks[s.run.blocks["cell"].isin(keys)] for s in (a, b))
            if keys and (problem := contradiction(a.run, b.run, own, other)):
                found.append(f"{first} and {second} count {len(keys)} equal cells, but {problem}")
        return found


def benchmarks(submissions: Sequence[Submission]) -> list[Benchmark]:
    """The benchmarks of some submissions, those with the most rows first."""
    groups: dict[str, list[Submission]] = {}
    for submission in submissions:
        facts = json.dumps(_must_be_equal(submission.run), sort_keys=True)
        groups.setdefault(hashlib.sha256(facts.encode()).hexdigest()[:8], []).append(submission)
    found = [_described(key, group) for key, group in groups.items()]
    return sorted(found, key=lambda b: (-sum(len(s.run.cells) for s in b.submissions), b.data, b.key))


def _described(key: str, group: Sequence[Submission]) -> Benchmark:
    run = group[0].run
    cell, classifier = next(iter(run.cells.values())), _shared_classifier(run)
    return Benchmark(
        key=key,
        data=str(run.manifest.get("data") or cell.dataset),
        dataset=cell.dataset,
        part=cell.split or "test",
        images=len(run.manifest["labels"]),
        classifier=classifier.get("text", ""),
        weights=classifier.get("weights", ""),
        rule=of_sweep(run.manifest["preset"], min(c.sigma for c in run.cells.values())).rule,
        noise=cell.noise or "gaussian",
        submissions=tuple(group),
    )


def _must_be_equal(run: Run) -> dict[str, Any]:
    """All facts in which runs of one benchmark agree, as JSON holds them.

    Runs of versions that recorded other facts do not share a benchmark with later ones, because nothing shows that
    their images or classifiers are equal.
    """
    cells = list(run.cells.values())
    classifier = _shared_classifier(run)
    classifier.pop("text", None)
    return {
        "images": sorted({(cell.dataset, cell.split, cell.data_hash, cell.noise) for cell in cells}),
        "labels": run.manifest["labels"],
        "pixels": run.manifest.get("pixels", {}),
        "classifier": classifier,
        "rule": of_sweep(run.manifest["preset"], _ANY).rule,
    }


def _shared_classifier(run: Run) -> dict[str, str]:
    """The classifier of the preset by its weights and code, and as `text`; empty if every row names its own.

    Weights that have a hash may lie under another path elsewhere.
    """
    cell = next((cell for cell in run.cells.values() if not cell.own_classifier), None)
    return {} if cell is None else {**_identity(cell), "text": cell.classifier_text}


def _identity(cell: Cell) -> dict[str, str]:
    weights = cell.hashes.get(_WEIGHTS, "")
    parameters = {k: v for k, v in cell.classifier_parameters.items() if not (weights and k == "path")}
    facts = {"weights": weights, "code": cell.hashes.get(_CODE, "")}
    nets = cell.versions.get("classifier nets", cell.hashes.get("classifier nets", ""))
    return {**facts, "nets": str(nets), "name": label_of(cell.classifier, parameters_text(parameters))}
