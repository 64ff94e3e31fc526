"""Check that the draws of a planned run give the stored counts, and choose the images to measure."""

from __future__ import annotations

import numpy as np

from bench.errors import PurifyBenchError
from bench.executors import Executor, describe_cell
from bench.records import Block, Task
from bench.store import Run
from bench.sweep import Pair, Plan

_RECOUNTED = 4  # images of each cell whose first block is counted again if the code has changed
_MOST_MOVED = 0.05  # share of these votes: other noise moves far more, the rounding of another processor far less


class MetricsError(PurifyBenchError):
    """The metrics of a run cannot be measured; the message gives the reason and the remedy."""


def chosen_images(plan: Plan, count: int) -> list[int]:
    """At most `count` of the plan's images, balanced over the classes as a sweep selects them."""
    images, most = list(plan.images), min(count, len(plan.images))
    return images[:most] if plan.split.interleaved else [images[i * len(images) // most] for i in range(most)]


def recount(run: Run, pair: Pair, executor: Executor) -> tuple[int, int]:
    """Count some draws of a cell again if its code has changed; returns their number, and how many votes changed.

    They are the first blocks of the images with the most divided votes, which depend most on noise and network.

    Raises:
        MetricsError: more votes changed than rounding explains.
    """
    if pair.stored.key == pair.current.key:
        return 0, 0
    blocks = run.blocks
    first = blocks[(blocks["cell"] == pair.stored.key) & (blocks["stage"] == "estimate") & (blocks["first"] == 0)]
    agreed = [max(votes) / max(sum(votes), 1) for votes in first["votes"]]
    most = first.iloc[np.argsort(agreed, kind="stable")[:_RECOUNTED]]
    if most.empty:
        return 0, 0
    again = tuple(
        Block(pair.current.key, int(i), "estimate", 0, int(n))
        for i, n in zip(most["image"], most["draws"], strict=True)
    )
    counted = executor.submit(Task(pair.current, again)).result()
    by_image = {counts.block.image: counts.votes for counts in counted}
    differences = [np.subtract(votes, by_image[i]) for i, votes in zip(most["image"], most["votes"], strict=True)]
    draws, moved = int(most["draws"].sum()), int(sum(np.abs(d).sum() for d in differences)) // 2
    if moved > _MOST_MOVED * draws:
        raise MetricsError(
            f"{describe_cell(pair.stored)}: of {draws} draws that were counted again, {moved} gave another class than "
            f"in {run.folder}, so these are not its draws: code, weights or data have changed. "
            f"Certify it again with another --out, or take the code of its revision ({run.manifest.get('git')})"
        )
    return draws, moved
