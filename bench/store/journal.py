"""The journal of a database, SQLite's write-ahead log, frame by frame.

SQLite itself stops at the first frame that is damaged, takes whatever follows for the remains of a power cut, and says
nothing (https://www.sqlite.org/fileformat2.html, section 4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

HEADER, FRAME = 32, 24
BIG_ENDIAN = bytes.fromhex("377f0683")
PAGE_SIZES = [1 << k for k in range(9, 17)]
USUAL = 4096  # the page size of every database that we make


@dataclass(frozen=True)
class Journal:
    """What lies in a journal.

    Attributes:
        pages: number and content of every page whose frame is whole, oldest first.
        damaged: whether transactions follow on a frame that is not whole, so that SQLite reads none of them.
    """

    pages: tuple[tuple[int, bytes], ...] = ()
    damaged: bool = False


def read_journal(database: Path) -> Journal:
    """The journal beside a database; empty where there is none."""
    path = database.with_name(f"{database.name}-wal")
    return walk(path.read_bytes()) if path.is_file() else Journal()


def walk(content: bytes) -> Journal:
    """Every frame in turn.

    Each checksum goes on from the one before. Where a frame is not whole, either its content changed or its checksum
    did, so the next one may go on from what is written or from what it should be.

    A power cut may leave out frames of the last transaction and keep later ones of it. That is no damage, so what
    follows on a bad frame must be more than the end of one transaction.
    """
    if len(content) < HEADER + FRAME:
        return Journal()
    order = ">" if content[:4] == BIG_ENDIAN else "<"
    size = int.from_bytes(content[8:12], "big")
    size = size if size in PAGE_SIZES else USUAL
    sums, written = checksum(content[:24], (0, 0), order), struct.unpack_from(">II", content, 24)
    failed = sums != written
    salts = content[HEADER + 8 : HEADER + 16] if failed else content[16:24]
    before = {sums, written}
    pages, commits = [], []
    for at in range(HEADER, len(content) - FRAME - size + 1, FRAME + size):
        number, committed = struct.unpack_from(">II", content, at)
        written = struct.unpack_from(">II", content, at + 16)
        page = content[at + FRAME : at + FRAME + size]
        if content[at + 8 : at + 16] != salts:  # of an older journal, or changed: the checksum leaves salts out
            failed, before = True, {written}
            continue
        found = [checksum(content[at : at + 8] + page, seed, order) for seed in before]
        if written in found:
            before = {written}
            pages.append((number, page))
            if failed:
                commits.append(committed > 0)
        else:
            failed, before = True, {written, found[0]}
    return Journal(tuple(pages), any(commits[:-1]))


def checksum(content: bytes, before: tuple[int, int], order: str) -> tuple[int, int]:
    """SQLite's checksum of a frame, going on from the one before."""
    first, second = before
    words = iter(struct.unpack(f"{order}{len(content) // 4}I", content))
    for word in words:
        first = (first + word + second) & 0xFFFFFFFF
        second = (second + next(words) + first) & 0xFFFFFFFF
    return first, second
