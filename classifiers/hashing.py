"""SHA-256 of files, each computed once while a file stays as it is."""

from __future__ import annotations

import hashlib
import time
from functools import cache
from pathlib import Path

DIGITS = 16  # of an identity
# Time stamps of file systems are coarse (2 s on FAT): a file written this recently can change and keep its time stamp.
_SETTLED_NS = 2_000_000_000


def fingerprint(path: Path, prefix: str = "", offset: int = 0) -> str:
    """SHA-256 of `prefix` and the content of a file from `offset` on; each file is read once until it changes."""
    status = path.stat()
    if time.time_ns() - status.st_mtime_ns < _SETTLED_NS:
        return _digest(path, prefix, offset)
    return _remembered(path.resolve(), prefix, offset, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@cache
def _remembered(path: Path, prefix: str, offset: int, *_status: int) -> str:
    return _digest(path, prefix, offset)


def _digest(path: Path, prefix: str, offset: int) -> str:
    """As `fingerprint`, always computed from the file."""
    with path.open("rb") as file:
        file.seek(offset)
        return hashlib.file_digest(file, lambda: hashlib.sha256(prefix.encode())).hexdigest()
