"""Memory that grows all along while a purifier is counted, told from the peaks that every block records. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.store.run import Run

PARTS = 10  # of the upper half of a cell's blocks
LEAST = 256 * 2**20  # bytes, and a quarter of what there was: less is no concern of anybody's
FEWEST = 4 * PARTS  # blocks


def leak_notes(run: Run) -> Iterator[str]:
    """The purifiers whose memory kept growing, each with how much."""
    blocks = run.blocks
    if blocks.empty:
        return
    for key, peaks in blocks.groupby("cell", sort=False)["peak_bytes"]:
        found = growth(peaks.to_numpy(float)) if key in run.cells else None
        if found:
            cell = run.cells[str(key)]
            low, high = (bytes_ / 2**30 for bytes_ in found)
            yield (
                f"{run.folder.name}: memory kept growing while {cell.label} at sigma = {cell.sigma:g} was counted, "
                f"from {low:.1f} to {high:.1f} GiB: it may leak, and end a long run; the same command goes on anew"
            )


def growth(peaks: np.ndarray) -> tuple[float, float] | None:
    """From where to where a process's highest memory rose, if it went on rising over the later blocks of a cell.

    A sound process reaches its peak within a few batches, and so do several, each with a peak of its own: of the blocks
    with the higher peaks, whole parts then have the same one. Under a leak every batch has a higher one than the last.

    Parameters:
        peaks: of every block, in any order, bytes.
    """
    if len(peaks) < FEWEST:
        return None
    low, high = float(peaks.min()), float(peaks.max())
    upper = np.sort(peaks)[len(peaks) // 2 :]
    rising = all(part[0] < part[-1] for part in np.array_split(upper, PARTS))
    return (low, high) if rising and high - low >= max(LEAST, low / 4) else None
