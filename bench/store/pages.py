"""Rows that lie in the pages of a damaged SQLite file and of its journal, read without schema and tree above them.

SQLite reaches a row through the schema and interior pages; where one is lost, so is all below it. The rows themselves
are in the file still (https://www.sqlite.org/fileformat2.html, sections 1.6 and 2.1). Whoever uses them checks them: a
page that was freed may hold a row that has been replaced.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bench.store.journal import PAGE_SIZES, USUAL, Journal

INTERIOR, LEAF, TABLE_LEAF = 2, 10, 13  # the first two are of an index, which is what a table WITHOUT ROWID is
INTEGER_BYTES = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
Row = tuple[Any, ...]


def all_rows(content: bytes, journal: Journal) -> Iterator[Row]:
    """Every record that can be read in a database and its journal, the journal's latest first.

    The header that tells the size of a page may be damaged, too, so the usual one is tried besides.
    """
    told = int.from_bytes(content[16:18], "big")
    newest = dict(journal.pages)
    for size in sorted({65536 if told == 1 else told, USUAL} & set(PAGE_SIZES)):
        pages = Pages(content, newest, size)
        changed = [page for _, page in reversed(journal.pages) if len(page) == size]
        yield from pages.rows(changed)
        yield from pages.rows(content[at : at + size] for at in range(size, len(content), size))


@dataclass(frozen=True)
class Pages:
    """Pages of one size.

    Attributes:
        content: the database file.
        newest: pages that the journal replaces, by number.
    """

    content: bytes
    newest: dict[int, bytes]
    size: int

    def rows(self, pages: Iterable[bytes]) -> Iterator[Row]:
        """Every record in some pages that is whole, together with the pages that it overflows to."""
        for page in pages:
            if not page or page[0] not in (INTERIOR, LEAF, TABLE_LEAF):
                continue
            header = 12 if page[0] == INTERIOR else 8
            for k in range(int.from_bytes(page[3:5], "big")):
                at = int.from_bytes(page[header + 2 * k : header + 2 * k + 2], "big")
                try:
                    yield record(self.payload(page, at))
                except (LookupError, ValueError, struct.error):
                    continue

    def payload(self, page: bytes, at: int) -> bytes:
        """The record at an offset of a page, from its overflow pages, too; raises where it is not whole."""
        length, at = varint(page, at + (4 if page[0] == INTERIOR else 0))
        if page[0] == TABLE_LEAF:
            _, at = varint(page, at)  # the rowid
        most = self.size - 35 if page[0] == TABLE_LEAF else (self.size - 12) * 64 // 255 - 23
        local = length if length <= most else self.local(length, most)
        data, at = page[at : at + local], at + local
        if length > len(self.content) + self.size * len(self.newest):
            raise ValueError("longer than all pages")
        following = page[at : at + 4]
        while len(data) < length:
            number = int.from_bytes(following, "big")
            next_page = self.newest.get(number) or self.content[(number - 1) * self.size : number * self.size]
            if local == length or number < 2 or len(next_page) < self.size:
                raise ValueError("not whole")
            data, following = data + next_page[4:], next_page[:4]
        return data[:length]

    def local(self, length: int, most: int) -> int:
        """Bytes that a record which overflows leaves on its own page."""
        least = (self.size - 12) * 32 // 255 - 23
        rest = least + (length - least) % (self.size - 4)
        return rest if rest <= most else least


def record(payload: bytes) -> Row:
    """The values of a record; raises where it is none."""
    end, at = varint(payload, 0)
    kinds, data = [], end
    while at < end:
        kind, at = varint(payload, at)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, data = read(payload, data, kind)
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
