"""What is whole of a run in the pages of its database and journal, whether or not SQLite can still read them."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.store.database import COLUMNS, VOTES, checked, is_cell
from bench.store.journal import Journal
from bench.store.pages import Row, all_rows
from bench.store.votes import decode

KEY = 4  # columns of a block's primary key: cell, image, stage, first
DRAWS = COLUMNS.index("draws")


@dataclass(frozen=True)
class Salvaged:
    """What was found.

    Attributes:
        manifests: the latest first.
        cells, blocks: rows of the tables, by primary key; of blocks with their checksum.
    """

    manifests: list[dict[str, Any]] = field(default_factory=list)
    cells: dict[str, Row] = field(default_factory=dict)
    blocks: dict[Row, Row] = field(default_factory=dict)


def salvage(path: Path, journal: Journal) -> Salvaged:
    """Every row that is whole. Which table it is of, its shape tells, and its checksum that it is none by chance."""
    found = Salvaged()
    for row in all_rows(path.read_bytes(), journal):
        if len(row) == len(COLUMNS):  # of format 1: the checksum was added to the schema alone
            row = (*row, None)
        if len(row) == len(COLUMNS) + 1 and is_whole(row):
            found.blocks.setdefault(row[:KEY], row)
        elif len(row) == 3 and is_cell(row):
            found.cells.setdefault(row[0], row)
        elif len(row) <= 2 and (manifest := manifest_of(*row)):
            found.manifests.append(manifest)
    return found


def is_whole(row: Row) -> bool:
    """Whether a block's checksum holds (where it has one) and its votes add up to its draws."""
    *values, crc = row
    try:
        votes = decode(row[VOTES])
        return sum(votes) == row[DRAWS] and min(votes) >= 0 and (crc is None or checked(tuple(values))[-1] == crc)
    except (ValueError, TypeError):
        return False


def manifest_of(text: Any = None, crc: Any = None) -> dict[str, Any]:
    """The manifest that a row holds; empty where it holds none."""
    try:
        if crc not in (None, zlib.crc32(text.encode())):
            return {}
        manifest = json.loads(text)
        return manifest if isinstance(manifest, dict) else {}
    except (ValueError, TypeError, AttributeError):
        return {}
