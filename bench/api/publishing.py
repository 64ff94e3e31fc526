"""Publish runs: a leaderboard of several, and a run as a data set of the hub. Importing it loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def board(runs: Sequence[str | Path], out: str | Path, verified: Sequence[str | Path] = ()) -> Path:
    """Write a static leaderboard of runs; returns its first page, which opens from disk and from any static host.

    Runs of one benchmark (data set, images, classifier, rule) share a table. A purifier is tied with the one that
    certifies the most images, or significantly lower; there are no ranks.

    Parameters:
        runs: results folders and bundles, each run once.
        out: folder of the site.
        verified: records of verifications of these runs (`bench verify RUN --record FILE`).

    Raises:
        BoardError: a run cannot stand on a board, or a record is of other counts.
        BundleError, StoreError: a run has not ended, or cannot be read.

    Examples:
        >>> pb.board(["results/embedded", "results/cifar10-fair"], "site/board")
    """
    from bench.board import write_board

    return write_board([Path(run) for run in runs], Path(out), [Path(file) for file in verified])[0]


def export_hub(run: str | Path, out: str | Path) -> Path:
    """Write a run as a data set in the layout of the Hugging Face Hub; returns its card. Nothing is sent.

    Parquet files of the summary, the certificates and the counts, a card with their configurations, and the bundle.

    Parameters:
        run: results folder.
        out: folder of the data set.

    Raises:
        BoardError: `out` is the folder of a run.
        BundleError, StoreError: the run has not ended, or cannot be read.

    Examples:
        >>> pb.export_hub("results/embedded", "embedded-dataset")
    """
    from bench.board import export_hub as export

    return export(Path(run), Path(out))[0]
