"""Write a board as a folder that opens from disk and from any static host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.board.benchmark import benchmarks
from bench.board.page import benchmark_page, overview, page_name
from bench.board.submission import BoardError, submissions
from bench.files import make_folder, write_file
from bench.verify import read_verification

INDEX = "index.html"


def write_board(paths: Sequence[Path], out: Path, verified: Sequence[Path] = ()) -> list[Path]:
    """Write a leaderboard of runs into a folder; returns its pages, the overview first.

    Parameters:
        paths: results folders and bundles, each run once.
        out: folder of the site, made if it is missing. Its pages load nothing from elsewhere.
        verified: records of verifications (`bench verify RUN --record FILE`).

    Raises:
        BoardError: there is no run, a run cannot stand on a board, or a record is of other counts.
        BundleError, StoreError: a run has not ended, or cannot be read.
        OSError: the folder cannot be written.
    """
    if not paths:
        raise BoardError("a board needs at least one run: give results folders, or bundles of `bench bundle`")
    make_folder(out)
    records = {path: read_verification(path) for path in verified}
    found = benchmarks(submissions(paths, out, records))
    pages = {page_name(benchmark): benchmark_page(benchmark) for benchmark in found}
    return [write_file(out / name, text) for name, text in {INDEX: overview(found), **pages}.items()]
