"""Runs of `bench` in processes of their own: started, killed while they count, and compared block by block."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import RunError
from bench.store import read_run
from bench.store.database import DATABASE

BLOCK = ["purifier", "sigma", "image", "stage", "first"]  # names a block in two runs
_PATIENCE = 300  # seconds


def run_command(*arguments: str) -> None:
    """Run a command of this project; raises RunError with its last lines if it fails."""
    done = subprocess.run([sys.executable, "-m", "bench", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RunError(
            f"bench {' '.join(arguments)} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}"
        )


def kill_when_counting(arguments: Sequence[str], folder: Path) -> None:
    """Start a run and kill it once its database has grown; a run that ends before is left as it is."""
    grown = _size(folder)
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + _PATIENCE
    while process.poll() is None and _size(folder) <= grown and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.poll() is None:
        process.send_signal(signal.SIGKILL)
    process.wait()


def _size(folder: Path) -> int:
    """Blocks in the database of a folder; 0 without one."""
    if not (folder / DATABASE).is_file():
        return 0
    try:
        with sqlite3.connect(f"{(folder / DATABASE).absolute().as_uri()}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM blocks").fetchone()[0])
    except sqlite3.Error:  # it is being made
        return 0


def blocks_of(folder: Path) -> pd.DataFrame:
    """The blocks of a run with the purifier and sigma of their cells."""
    run = read_run(folder)
    blocks = run.blocks.assign(votes=run.blocks["votes"].map(tuple))
    names = {key: (cell.label, cell.sigma) for key, cell in run.cells.items()}
    purifiers, sigmas = zip(*(names[key] for key in blocks["cell"]), strict=True)
    return blocks.assign(purifier=purifiers, sigma=sigmas)


def difference_to(blocks: pd.DataFrame, committed: Path) -> dict[str, Any]:
    """Votes that differ from those of a committed run, block by block; nothing if it is not there."""
    if not committed.is_dir():
        return {}
    both = blocks.merge(blocks_of(committed), on=BLOCK, suffixes=("", "_there"))
    pairs = zip(both["votes"], both["votes_there"], strict=True)
    differing = sum(sum(max(0, a - b) for a, b in zip(*pair, strict=True)) for pair in pairs)
    return {"compared_draws": int(both["draws"].sum()), "differing_votes": differing}
