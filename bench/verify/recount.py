"""Count chosen blocks of a run again, and compare votes, evaluations and certificates."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from bench.engine import LoadError, PluginFault
from bench.errors import PurifyBenchError
from bench.executors import Executor, describe_cell
from bench.provenance import library_version
from bench.records import Block, Cell, Counts, Task
from bench.store import Run
from bench.summary import summarise
from bench.sweep import Pair, start
from bench.verify.figures import Findings
from bench.verify.replan import code_differences, data_differences, lacking, of_other_code, plan_again
from bench.verify.sample import choose, smallest_edit
from bench.verify.tolerance import Vote, excesses, tolerance_of
from bench.verify.verdict import Recount
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import WeightsError

_MISSING = (PurifyBenchError, ClassifierError, WeightsError)  # plugin packages do not import bench
_NEAR = 0.1  # relative difference of evaluations per draw that adaptive solvers may have between samples of blocks
_MOST_NAMED = 5  # blocks that are named one by one


@dataclass(frozen=True)
class _Counted:
    """A chosen block of the run and its recount: its row in the run's blocks, and the new counts."""

    row: pd.Series
    counts: Counts

    @property
    def moved(self) -> int:
        """Draws that gave another class."""
        stored, again = self.row["votes"], self.counts.votes
        if len(stored) != len(again):
            return int(self.row["draws"])
        return int(np.maximum(np.subtract(stored, again), 0).sum())

    def lost(self, label: int) -> int:
        """Votes that the true class has in the run and not in the recount."""
        stored, again = self.row["votes"], self.counts.votes
        return int(stored[label] - again[label]) if len(stored) == len(again) > label else 0


def recount(run: Run, share: float, seed: int, found: Findings, options: Mapping[str, Any]) -> Recount | None:
    """Count a share of the blocks of a run again; adds to `found`, and returns None if nothing could be counted.

    Parameters:
        options: `device`, `workers`, `data`, `networks` (role -> network), and `purifiers` and `classifier`, the
            Python files of the run's plugins; `notify`, called with messages about the way.
    """
    begun = time.monotonic()
    try:
        if run.manifest.get("preset", {}).get("dataset") == "in-memory":
            raise PurifyBenchError("its images and modules were in memory, and no file names them")
        plan, pairs, devices = plan_again(run, options)
    except (*_MISSING, KeyError) as error:
        found.missing.append(f"the counts: {error.args[0] if isinstance(error, KeyError) else error}")
        return None
    found.problems += data_differences(run, plan)
    without = {pair.stored.key: reason for pair in pairs if (reason := lacking(run, pair))}
    found.missing += without.values()
    ready = {pair.stored.key: pair for pair in pairs if pair.stored.key not in without}
    if run.errors:
        found.notes.append(
            f"{len(run.errors)} cells failed in the run; they have no figures, and are not counted again"
        )
    changed = [pair for pair in ready.values() if code_differences(pair)]
    known = run.blocks[run.blocks["cell"].isin(ready)]
    inside = known["image"].isin(plan.images)
    if not inside.all():
        found.missing.append(
            f"{int((~inside).sum()):,} blocks are of images that the preset does not certify; they enter the costs of "
            "the run. Certify all of its images in one folder, or these in another"
        )
    known = known[inside].reset_index(drop=True)
    positions, sizes = choose(known, share, seed)
    try:
        with start(plan, devices, options.get("notify") or (lambda message: None)) as executor:
            counted = list(_count(known.iloc[positions], ready, executor, int(plan.preset.batch), found))
    except _MISSING as error:
        found.missing.append(f"the counts: {error}")
        return None
    if not counted:
        return None
    here = sorted({c.counts.cost.device for c in counted})
    torch = library_version("torch") or ""
    tolerance = tolerance_of(run.manifest, [str(c.row["device"]) for c in counted], here, torch)
    labels = {int(i): label for i, label in run.manifest["labels"].items()}
    votes = [
        Vote(c.row["cell"], int(c.row["draws"]), c.moved, c.lost(labels.get(int(c.row["image"]), 0))) for c in counted
    ]
    names = {key: describe_cell(pair.stored) for key, pair in ready.items()}
    found_here = excesses(votes, tolerance, names)
    if found_here:
        found_here += _worst(counted, names)
    found_here += _evaluations(counted, names, complete=len(counted) == len(known))
    if found_here and changed:
        found.missing.append(of_other_code(run, changed))
        found.missing += found_here
    else:
        found.problems += found_here
        if changed:
            found.notes.append(f"{of_other_code(run, changed)}. This code gives the same votes within the tolerance")
    draws = sum(v.draws for v in votes)
    return Recount(
        seed=seed,
        share=share,
        blocks=len(counted),
        of_blocks=int(run.blocks["cell"].isin(run.cells).sum()),
        cells=len({v.cell for v in votes}),
        draws=draws,
        moved=sum(v.moved for v in votes),
        exact=tolerance.exact,
        limit=tolerance.most(draws),
        reason=tolerance.reason,
        changed=_changed_certificates(run, counted),
        smallest=smallest_edit(sizes),
        device=" + ".join(here),
        seconds=time.monotonic() - begun,
    )


def _count(
    chosen: pd.DataFrame, pairs: Mapping[str, Pair], executor: Executor, batch: int, found: Findings
) -> Iterator[_Counted]:
    """Count blocks cell by cell; a cell that fails is noted as missing."""
    running: deque[tuple[Cell, pd.DataFrame, Future[list[Counts]]]] = deque()

    def finished() -> Iterator[_Counted]:
        cell, rows, future = running.popleft()
        try:
            again = future.result()
        except (PluginFault, LoadError) as error:
            line = f"{describe_cell(cell)}: {error}"
            found.missing += [line] if line not in found.missing else []
            return
        for (_, row), counts in zip(rows.iterrows(), again, strict=True):
            yield _Counted(row, counts)

    for key, rows in chosen.groupby("cell", sort=False):
        pair = pairs[str(key)]
        for part in _batches(rows, batch):
            blocks = tuple(
                Block(pair.current.key, int(row["image"]), row["stage"], int(row["first"]), int(row["draws"]))
                for _, row in part.iterrows()
            )
            running.append((pair.stored, part, executor.submit(Task(pair.current, blocks))))
            if len(running) > executor.slots:
                yield from finished()
    while running:
        yield from finished()


def _batches(rows: pd.DataFrame, draws: int) -> Iterator[pd.DataFrame]:
    """Consecutive rows of about so many draws."""
    batch = (rows["draws"].astype(int).cumsum() - 1) // draws
    for _, part in rows.groupby(batch.to_numpy(), sort=True):
        yield part


def _worst(counted: Sequence[_Counted], names: Mapping[str, str]) -> list[str]:
    """The blocks with the most differing votes."""
    worst = sorted((c for c in counted if c.moved), key=lambda c: -c.moved)
    lines = [
        f"{names[c.row['cell']]}, image {c.row['image']}, {c.row['stage']} draws {c.row['first']} to "
        f"{c.row['first'] + c.row['draws'] - 1}: {list(c.row['votes'])} in the run, {list(c.counts.votes)} again"
        for c in worst[:_MOST_NAMED]
    ]
    return lines + ([f"{len(worst) - _MOST_NAMED:,} more blocks"] if len(worst) > _MOST_NAMED else [])


def _evaluations(counted: Sequence[_Counted], names: Mapping[str, str], complete: bool) -> list[str]:
    """Cells whose stored evaluations are not those of the recount.

    A whole number per draw must be that of every block. Adaptive solvers take another number for each image, and a
    block holds its share of its batch, so they are compared as the mean over the recount.
    """
    problems = []
    for key in dict.fromkeys(c.row["cell"] for c in counted):
        own = [c for c in counted if c.row["cell"] == key]
        draws = sum(c.counts.block.draws for c in own)
        for name in ("nfe", "classifier_rows"):
            again = [getattr(c.counts.cost, name) for c in own]
            stored = [int(c.row[name]) for c in own]
            per_draw, stated = sum(again) / draws, sum(stored) / draws
            fixed = all(n == per_draw * c.counts.block.draws for n, c in zip(again, own, strict=True))
            same = stored == again if fixed else math.isclose(stated, per_draw, rel_tol=1e-3 if complete else _NEAR)
            if not same:
                problems.append(f"{names[key]}: {name} is {stated:.4g} per draw in the run, {per_draw:.4g} again")
    return problems


def _changed_certificates(run: Run, counted: Sequence[_Counted]) -> int:
    """Number of certificates that change if the recounted votes replace those of the run."""
    moved = [c for c in counted if c.moved]
    touched = {(c.row["cell"], c.row["image"]) for c in moved}
    if not touched:
        return 0
    own = [pair in touched for pair in zip(run.blocks["cell"], run.blocks["image"], strict=True)]
    before = run.blocks[own].reset_index(drop=True)
    again = {tuple(c.row[name] for name in ("cell", "image", "stage", "first")): list(c.counts.votes) for c in moved}
    keys = zip(before["cell"], before["image"], before["stage"], before["first"], strict=True)
    after = before.assign(votes=[again.get(key, votes) for key, votes in zip(keys, before["votes"], strict=True)])
    facts = ["cell", "image", "predicted", "radius"]
    old, new = (
        {tuple(row) for row in summarise([replace(run, blocks=blocks)]).certificates[facts].to_numpy().tolist()}
        for blocks in (before, after)
    )
    return len(old - new)
