"""Rows that lie in the pages of a torn SQLite file, read without the tree above them.

SQLite reaches a row through interior pages; where one is lost, so is all below it. The rows themselves are in the file
still (https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1). Whoever uses them checks them: a page that was
freed may hold a row that has been replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

INTERIOR, LEAF = 2, 10  # kinds of pages of an index, which is what a table WITHOUT ROWID is
INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}


def rows_in_pages(content: bytes, columns: int) -> Iterator[tuple[Any, ...]]:
    """Every record of so many columns that is whole in one page; records that overflow their page are left out."""
    size = int.from_bytes(content[16:18], "big")
    size = 65536 if size == 1 else size
    if size < 512:
        return
    for start in range(size, len(content), size):
        page = content[start : start + size]
        if not page or page[0] not in (INTERIOR, LEAF):
            continue
        header = 12 if page[0] == INTERIOR else 8
        for k in range(int.from_bytes(page[3:5], "big")):
            at = int.from_bytes(page[header + 2 * k : header + 2 * k + 2], "big")
            try:
                row = record(page, at + (4 if page[0] == INTERIOR else 0))
            except (IndexError, ValueError, struct.error):
                continue
            if len(row) == columns:
                yield row


def record(page: bytes, at: int) -> tuple[Any, ...]:
    """The values of the record at an offset; raises where it is none, or is not whole in its page."""
    length, at = varint(page, at)
    if at + length > len(page):
        raise ValueError("the record overflows its page")
    header, data = varint(page, at)
    kinds, end = [], at + header
    while data < end:
        kind, data = varint(page, data)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, data = read(page, data, kind)
        values.append(value)
    return tuple(values)


def read(page: bytes, at: int, kind: int) -> tuple[Any, int]:
    """A value of a serial type, and where it ends."""
    if kind in (0, 8, 9):
        return (None, 0, 1)[(0, 8, 9).index(kind)], at
    if kind == 7:
        return struct.unpack_from(">d", page, at)[0], at + 8
    length = INTEGER_BYTES.get(kind) or (kind - 12) // 2
    value = page[at : at + length]
    if kind in (10, 11) or len(value) < length:
        raise ValueError("no value of SQLite's")
    if kind in INTEGER_BYTES:
        return int.from_bytes(value, "big", signed=True), at + length
    return (value.decode() if kind % 2 else value), at + length


def varint(page: bytes, at: int) -> tuple[int, int]:
    """A number of up to nine bytes, and where it ends."""
    value = 0
    for k in range(9):
        byte = page[at + k]
        if k == 8:
            return value << 8 | byte, at + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + k + 1
    raise ValueError("not reached")
