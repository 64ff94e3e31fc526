"""Verify a run: its figures from its counts, and its counts by counting a random share of its blocks again."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.store import MANIFEST, read_run
from bench.store.checksums import digests, unchecked
from bench.store.run import PARQUET
from bench.verify.bundle import opened
from bench.verify.figures import check_figures, claim_of
from bench.verify.verdict import CHECKED, FAILED, VERIFIED, Verification


def verify(
    path: Path, share: float = 0.01, seed: int | None = None, counts: bool = True, **options: Any
) -> Verification:
    """Verify a results folder or a bundle without trusting it.

    Parameters:
        share: of the blocks of each cell that are counted again, at least one block of each.
        seed: chooses the blocks; without one a new random seed is drawn. Who made the run must not know it beforehand.
        counts: False checks only that the figures follow from the counts, without torch.
        options: as `bench.verify.recount.recount` takes them.

    Raises:
        ValueError: the share or the seed is out of range.
        StoreError, BundleError: the run cannot be read.
    """
    if not 0 < share <= 1:
        raise InputError(f"share must be above 0 and at most 1, got {share:g}")
    if seed is not None and seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    with opened(path) as (folder, problems), unchecked():
        run = read_run(folder)
        found = check_figures(run)
        found.problems[:0] = problems
        result = None
        if counts and found.readable:
            from bench.verify.recount import recount

            result = recount(run, share, secrets.randbits(32) if seed is None else seed, found, options)
        status = FAILED if found.problems else CHECKED if found.missing else VERIFIED
        claim, files = claim_of(run), digests(folder, (MANIFEST, PARQUET))
    return Verification(
        run=folder.name,
        status=status,
        claim=claim,
        problems=tuple(found.problems),
        missing=tuple(found.missing),
        checked=tuple(found.checked),
        notes=tuple(found.notes),
        recount=result,
        files=files,
    )
