"""Faults of files: what disks, editors and strangers do to a folder. A generator draws each, so it repeats."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

_HOSTILE = (None, True, -1, 0, 0.5, 2**31, 2**63, 10**15, 1e300, float("nan"), float("inf"), "", "text", "../x", [], {})
_HOSTILE += ([[[[[]]]]], {"0": 0}, "\x1b[2J", "é" * 300, -(2**40), 1e-300)
_ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT "


def _overwrite(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _place_of(path: Path, rng: Random) -> int:
    return rng.randrange(max(1, path.stat().st_size))


def flip(path: Path, rng: Random, outside: Path) -> str:
    """One flipped bit, or a few."""
    content, flips = bytearray(path.read_bytes() or b"\0"), rng.choice((1, 1, 1, 2, 8))
    places = [rng.randrange(8 * len(content)) for _ in range(flips)]
    for place in places:
        content[place // 8] ^= 1 << place % 8
    _overwrite(path, bytes(content))
    return f"bits {places}"


def truncate(path: Path, rng: Random, outside: Path) -> str:
    size = rng.choice((0, _place_of(path, rng)))
    os.truncate(path, size)
    return f"to {size} bytes"


def append(path: Path, rng: Random, outside: Path) -> str:
    content = path.read_bytes()
    _overwrite(path, content + rng.choice((rng.randbytes(64), content)))
    return ""


def wipe(path: Path, rng: Random, outside: Path) -> str:
    """A block of zeros or of noise, as of a disk that failed."""
    content, first = bytearray(path.read_bytes()), _place_of(path, rng)
    size = min(rng.choice((16, 512, 4096)), len(content) - first)
    content[first : first + size] = rng.choice((bytes(size), rng.randbytes(size)))
    _overwrite(path, bytes(content))
    return f"{size} bytes at {first}"


def exchange(path: Path, rng: Random, outside: Path) -> str:
    """Two blocks of a file in each other's place."""
    content, size = bytearray(path.read_bytes()), rng.choice((1, 16, 512))
    if len(content) >= 2 * size:
        a, b = sorted(rng.sample(range(len(content) // size), 2))
        a, b = a * size, b * size
        content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
        _overwrite(path, bytes(content))
    return f"blocks of {size}"


def swap(path: Path, rng: Random, outside: Path) -> str:
    """The content of two files in each other's place."""
    other = rng.choice([p for p in sorted(path.parent.iterdir()) if p.is_file() and p != path] or [path])
    ours, theirs = path.read_bytes(), other.read_bytes()
    _overwrite(path, theirs)
    _overwrite(other, ours)
    return f"with {other.name}"


def remove(path: Path, rng: Random, outside: Path) -> str:
    path.unlink()
    return ""


def link(path: Path, rng: Random, outside: Path) -> str:
    """A link, a folder or a device in the place of a file."""
    kept = outside / f"kept-{path.name}"
    shutil.move(path, kept)
    kind = rng.choice(("copy", "hard", "other", "loop", "folder", "link to folder", "fifo", "zero", "dangling"))
    if kind == "hard":
        os.link(kept, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        targets = {"copy": kept, "other": outside / "sentinel.txt", "loop": path, "link to folder": outside}
        path.symlink_to(targets.get(kind, "/dev/zero" if kind == "zero" else outside / "absent"))
    return kind


_OUTPUTS = ("report.html", "pareto.svg", "tables", "summary.csv", "export", "published", "repair", "run.lock")
_OUTPUTS += ("run.sqlite-wal", "run.sqlite-journal", "run.sqlite-shm", "metrics.json", "manifest.json", "repair/torn")


def plant(path: Path, rng: Random, outside: Path) -> str:
    """Links where a command would write: at some of its outputs, and at every draft of them with a fixed name."""
    target = rng.choice((outside / "sentinel.txt", outside / "new.txt", outside, outside / "new"))
    names = [name for name in _OUTPUTS if rng.random() < 0.8]
    for form in ("{}", "{}.part", ".{}.partial", "{}.tmp", ".{}.part", "{}.partial"):
        for place in (path.parent / form.format(name) for name in names):
            if not os.path.lexists(place) and not place.parent.is_symlink():
                place.parent.mkdir(exist_ok=True)
                place.symlink_to(target)
    return f"{', '.join(names)} -> {target.name}"


def edit_number(path: Path, rng: Random, outside: Path) -> str:
    """Another number in a text, or a word in its place."""
    text = path.read_bytes().decode("latin-1")
    numbers = list(re.finditer(r"-?\d+(\.\d+)?", text))
    if not numbers:
        return flip(path, rng, outside)
    place, value = rng.choice(numbers), str(rng.choice(("0", "1", "2", "7", "1e300", str(2**63), "-1", "NaN", '"x"')))
    _overwrite(path, (text[: place.start()] + value + text[place.end() :]).encode("latin-1"))
    return f"{place[0]} -> {value} at {place.start()}"


def edit_json(path: Path, rng: Random, outside: Path) -> str:
    """Another value at any place of a JSON file, or a document that is nested without end."""
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError):
        return edit_number(path, rng, outside)
    if rng.random() < 0.05:
        _overwrite(path, b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
        return "nested"
    done = set_somewhere(document, rng)
    _overwrite(path, json.dumps(document).encode())
    return done


def set_somewhere(document: Any, rng: Random) -> str:
    """Replace, remove or add one value inside of a JSON document; returns what was done."""
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
        places.extend((value, key) for key, _ in items)
        for _, inner in items:
            walk(inner)

    walk(document)
    shallow = [place for place in places if place[0] is document]
    holder, key = rng.choice(shallow if shallow and rng.random() < 0.3 else places or [({}, "x")])
    if rng.random() < 0.2 and isinstance(holder, dict):
        holder.pop(key, None)
        return f"without {key!r}"
    value = rng.choice(_HOSTILE)
    holder[key] = value
    return f"{key!r} = {value!r:.40}"


def edit_toml(path: Path, rng: Random, outside: Path) -> str:
    """Another value of a field, or code of a stranger's."""
    theirs = outside / "code"
    own = f'"{theirs / "theirs.py"}"'
    lines = [line for line in path.read_text().splitlines() if " = " in line]
    key = rng.choice(lines).partition(" = ")[0]
    far = os.path.relpath(theirs / "theirs.toml", path.parent)
    key, value = rng.choice(
        (
            *((key, text) for text in ("-1", "1e300", "9223372036854775808", "nan", '"x"', "[]", "[[[]]]", "true")),
            *(("extends", f'"{name}"') for name in (theirs / "theirs.toml", far, path.name, "../zoo/edm.json")),
            *(("purifiers", f"[{own}]"), ("purifiers", f'["none", {{ name = {own} }}]'), ("name", '"../../x"')),
            *(("n", str(10**15)), ("images", str(2**40)), ("networks", '{ edm = "-x/-y" }'), ("classifier", own)),
        )
    )
    _overwrite(path, "\n".join([x for x in lines if not x.startswith(f"{key} =")] + [f"{key} = {value}", ""]).encode())
    return f"{key} = {value}"


def edit_database(path: Path, rng: Random, outside: Path) -> str:
    """A statement of SQL that keeps the file whole: values without their checksums, rows, views, types."""
    blocks = "cell, image, stage, first, draws, '3:1' AS votes, 1 AS nfe, 1 AS classifier_rows, 0 AS noise_s, "
    blocks += "0 AS purify_s, 0 AS classify_s, 1 AS peak_bytes, 'x' AS device, 1 AS crc"
    endless = _ENDLESS + blocks.replace("cell,", "'c' AS cell,", 1).replace("image,", "i AS image,", 1).replace(
        "stage, first, draws", "'estimate' AS stage, i AS first, 1 AS draws"
    )
    statement = rng.choice(
        (
            "UPDATE blocks SET votes = (SELECT votes FROM blocks ORDER BY RANDOM() LIMIT 1)",
            "UPDATE blocks SET image = image + 1000",
            "UPDATE blocks SET crc = NULL, nfe = nfe + 1",
            "UPDATE manifest SET crc = NULL",
            "UPDATE manifest SET json = replace(json, '0', '1'), crc = NULL",
            "UPDATE cells SET cell = replace(cell, '0.5', '0.25')",
            "UPDATE cells SET key = 'x' || key",
            "UPDATE cells SET error = 1",
            "UPDATE cells SET error = x'ff00'",
            "DELETE FROM cells",
            "DELETE FROM cells WHERE rowid = (SELECT min(rowid) FROM cells)",
            "DELETE FROM manifest",
            "DELETE FROM blocks WHERE rowid % 2",
            "DROP TABLE manifest",
            "PRAGMA user_version = 4",
            "PRAGMA writable_schema = 1; UPDATE sqlite_master SET sql = replace(sql, 'votes', 'v')",
            f"ALTER TABLE blocks RENAME TO b; CREATE VIEW blocks AS {endless} FROM n",
            "ALTER TABLE blocks RENAME TO b; CREATE TABLE blocks AS SELECT * FROM b UNION ALL SELECT * FROM b",
        )
    )
    try:
        db = sqlite3.connect(path)
        db.executescript(statement)
        db.commit()
        db.close()
    except sqlite3.Error as error:
        return f"{statement}: {error}"
    return statement


def edit_table(path: Path, rng: Random, outside: Path) -> str:
    """Another value in a parquet file whose pages have right checksums."""
    import pandas as pd

    table = pd.read_parquet(path)
    column, row = rng.choice(list(table.columns)), rng.randrange(len(table))
    values = table[column].tolist()
    values[row] = rng.choice([v for v in values if str(v) != str(values[row])] or [values[row]])
    table[column] = values
    table.to_parquet(path, index=False, write_page_checksum=True)
    return f"{column} of row {row}"


def edit_arrays(path: Path, rng: Random, outside: Path) -> str:
    """An array of zeros, of another shape, type or size in an npz file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    name = rng.choice(sorted(arrays))
    arrays[name] = rng.choice((np.zeros(3), arrays[name][..., :1] if arrays[name].ndim else np.zeros(0), np.array("x")))
    if rng.random() < 0.1:
        arrays[name] = np.zeros((1 << 14, 1 << 15), np.uint8)  # half a gigabyte of zeros
    np.savez_compressed(path, **arrays)
    return name


_Fault = Callable[[Path, Random, Path], str]
ANY: tuple[_Fault, ...] = (flip, flip, truncate, append, wipe, exchange, swap, remove, link, plant, plant)
BY_SUFFIX: dict[str, tuple[_Fault, ...]] = {
    ".json": (edit_json, edit_json, edit_json, edit_number),
    ".csv": (edit_number, edit_number),
    ".toml": (edit_number, edit_toml, edit_toml),
    ".sqlite": (edit_database, edit_database, edit_database),
    ".parquet": (edit_table, edit_table),
    ".npz": (edit_arrays, edit_arrays),
}


def inject(tree: Path, rng: Random, outside: Path) -> tuple[str, Path, str]:
    """Damage one file of a tree; returns the name of the fault, the file, and what was done."""
    files = sorted(path for path in tree.rglob("*") if stat.S_ISREG(path.lstat().st_mode))
    path = rng.choice([file for file in files if file.stat().st_size and file.name != "run.lock"])
    fault = rng.choice(ANY + BY_SUFFIX.get(path.suffix, ()))
    return fault.__name__.replace("_", " "), path, fault(path, rng, outside)
