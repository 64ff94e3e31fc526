"""Commands as tests give them, and what they left behind."""

from __future__ import annotations

import json
import sqlite3

from bench.store.database import DATABASE
from bench.store.run import read_run

OK, FAILED, REFUSED = 0, 1, 2


def refused(result) -> str:
    """What a refused command said."""
    assert result.exit_code == REFUSED, result.output
    assert not result.stdout.strip()
    assert "Traceback" not in result.stderr
    return result.stderr


def run(cli, *arguments):
    return cli("run", *arguments, "--no-plots")


def counts_of(folder):
    """Votes by everything that names a block."""
    blocks = read_run(folder).blocks
    where = zip(blocks["cell"], blocks["image"], blocks["stage"], blocks["first"], strict=True)
    return dict(zip(where, map(tuple, blocks["votes"]), strict=True))


def rows_of(folder):
    """Every row of the database's blocks, seconds and all."""
    db = sqlite3.connect(folder / DATABASE)
    rows = db.execute("SELECT * FROM blocks").fetchall()
    db.close()
    return rows


def summary_of(cli, *arguments):
    result = cli("summary", *arguments, "--json")
    assert result.exit_code == OK, result.output
    return json.loads(result.stdout)
