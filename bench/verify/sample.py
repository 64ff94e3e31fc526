"""Choose the blocks of a run to count again, and the smallest edit that such a choice finds. Pure."""

from __future__ import annotations

import hashlib
import heapq
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

CONFIDENCE = 0.95  # with which the smallest edit is found


def choose(blocks: pd.DataFrame, share: float, seed: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Positions of randomly chosen blocks, and for each cell its number of blocks and of chosen blocks.

    A block's place in the order of choice is a hash of the seed and of the block's name. So a seed chooses the same
    blocks on every machine, whatever the order in which the run stored them, and nobody can know the choice before the
    verifier names the seed.

    Parameters:
        blocks: with the columns cell, image, stage and first.
        share: of the blocks of each cell, rounded up.
    """
    names = zip(blocks["cell"], blocks["image"], blocks["stage"], blocks["first"], strict=True)
    ranks = np.array([hashlib.sha256(f"{seed}/{c}/{i}/{s}/{f}".encode()).hexdigest() for c, i, s, f in names])
    chosen, sizes = [], []
    for at in blocks.groupby("cell", sort=True).indices.values():
        taken = min(len(at), math.ceil(share * len(at)))
        chosen.append(at[np.argsort(ranks[at], kind="stable")[:taken]])
        sizes.append((len(at), taken))
    return np.sort(np.concatenate(chosen)) if chosen else np.array([], int), sizes


def smallest_edit(sizes: Sequence[tuple[int, int]], confidence: float = CONFIDENCE) -> int:
    """The least number of edited blocks of which a choice contains one with this probability, wherever they are.

    The choice misses k edited blocks of a cell with `n` blocks, of which `m` are chosen, with the probability
    `C(n-k, m) / C(n, m)`. Its logarithm is concave in k, so the editor does best to add one edit after the other where
    the probability falls least, which gives the worst case exactly.

    Parameters:
        sizes: for each cell its number of blocks `n` and of chosen blocks `m`.
    """

    def loss(n: int, m: int, k: int) -> float:
        """Minus the change of the logarithm that the next edit makes, after k others in the same cell."""
        left = n - k - m
        return math.inf if left <= 0 else -math.log(left / (n - k))

    queue = [(loss(n, m, 0), n, m, 0) for n, m in sizes if m]
    heapq.heapify(queue)
    missed, edits = 0.0, 0
    while queue and missed < -math.log(1 - confidence):
        step, n, m, k = heapq.heappop(queue)
        missed, edits = missed + step, edits + 1
        heapq.heappush(queue, (loss(n, m, k + 1), n, m, k + 1))
    return edits
