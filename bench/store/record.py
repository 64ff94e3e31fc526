"""A record of a run's folder as one JSON file: written whole, and read with every type checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import InputError
from bench.files import read_json, validated, write_file
from bench.store.checksums import refuse_changed, relisted

Record = TypeVar("Record")


def write_record(path: Path, record: Any, version: int, indent: int | None = None) -> Path:
    """Write a dataclass; returns the path."""
    text = json.dumps({"format": version, **asdict(record)}, indent=indent, ensure_ascii=False)
    with relisted(path.parent, path.name):
        return write_file(path, text + "\n")


def read_record(
    path: Path, kind: type[Record], version: int, command: str, check: Callable[[Record], None] = lambda record: None
) -> Record | None:
    """Read a record; None if there is no file.

    Parameters:
        kind: its class, a pydantic dataclass.
        command: makes the file again.
        check: raises ValueError if the record cannot be used.

    Raises:
        ValueError: the file is damaged or of a later format; the message names it.
        StoreError: it is not the one that the list of checksums names.
    """
    if not path.exists():
        return None
    refuse_changed(path.parent, path.name)
    try:
        stored = read_json(path)
        if (found := stored.pop("format")) != version:
            raise InputError(f"its format is {found}, this version reads {version}")
        record = validated(kind, stored)
        check(record)
        return record
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, and `{command}` makes it again") from error
