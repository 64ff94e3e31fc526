"""All reading and writing of files: writes follow no link, and reads take no more memory than the file may need.

A results folder, a preset or a weight file may be a stranger's. Links in it must not lead a write elsewhere, and a
small file must not fill the memory. `tests/test_files.py` refuses modules that read or write by other means. Purifiers
and classifiers use this module, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import shutil
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BufferedReader, BufferedWriter
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.errors import InputError

if TYPE_CHECKING:
    import numpy as np

Kind = TypeVar("Kind")
MOST_TEXT = 64 << 20  # bytes of a JSON, CSV or TOML file: parsed, it may take twenty times as much
_ADVICE = re.compile(r"[^.,;:(]*(allow_pickle|weights_only|trust_remote_code|trust the source)[^.,;)]*")
_MOST_ARRAYS = 1 << 30  # bytes of all arrays of an npz file, uncompressed
_BYTES_PER_VALUE = 16  # of memory, of a number in a column of lists: in the table, and in the list that is made of it


class TooLarge(InputError):
    """Reading something would take more memory than there is; the file may be whole."""


def make_folder(path: Path) -> Path:
    """Make the folder that a user named, unless it exists; returns it. Its own name may be a link."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def make_subfolder(path: Path, *names: str) -> Path:
    """As `make_folder`, for folders that this project names, one inside the other; raises as `subfolder`."""
    return make_folder(subfolder(path, *names))


def subfolder(path: Path, *names: str) -> Path:
    """The path of folders that this project names, one inside the other; raises OSError if one is a link."""
    for name in names:
        path = path / name
        if path.is_symlink():
            raise OSError(f"{path} is a link, which nothing is written through; remove it")
    return path


def _without_links(path: str | Path, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


@contextmanager
def writing(path: Path) -> Iterator[BufferedWriter]:
    """A new file that replaces `path` when the context ends without an error, so that no reader sees half a file.

    Its name cannot be guessed. If `path` is a link, the link is replaced and its target is not changed.
    """
    draft = path.with_name(f".{secrets.token_hex(8)}.part")
    with open(draft, "xb", opener=_without_links) as file:
        try:
            yield file
            file.close()
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def write_file(path: Path, content: str | bytes) -> Path:
    """Write a whole file, text as UTF-8, as `writing` does; returns its path."""
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return path


def copy_file(source: Path, target: Path) -> None:
    """Copy a regular file, as `writing` does."""
    with open_file(source) as content, writing(target) as file:
        shutil.copyfileobj(content, file, 1 << 20)


def continuing(path: Path, begun: bool) -> BufferedWriter:
    """A partial download that later processes continue, so its name is fixed; raises OSError if it is a link."""
    flags = os.O_APPEND if begun else os.O_TRUNC
    return os.fdopen(_without_links(path, os.O_WRONLY | os.O_CREAT | flags), "wb")


def open_file(path: Path, most: int | None = None) -> BufferedReader:
    """A file for reading.

    Parameters:
        most: bytes that it may have.

    Raises:
        InputError: it is larger, or no regular file (a pipe would wait for ever).
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0)))  # noqa: SIM115
    status = os.fstat(file.fileno())
    problem = "" if stat.S_ISREG(status.st_mode) else "it is no regular file"
    if most is not None and status.st_size > most:
        problem = f"it has {status.st_size:,} bytes, and {most:,} at most are read"
    if problem:
        file.close()
        raise InputError(problem)
    return file


def read_bytes(path: Path, most: int | None = None) -> bytes:
    """The content of a file; parameters and errors as `open_file`."""
    with open_file(path, most) as file:
        return file.read()


def read_text(path: Path, errors: str = "strict") -> str:
    """A text file in UTF-8 of at most `MOST_TEXT` bytes; raises OSError or ValueError. `errors` as `bytes.decode`."""
    return read_bytes(path, MOST_TEXT).decode(errors=errors)


def without_advice(text: str) -> str:
    """A library's error message without its advice to load the file in a way that runs code."""
    return _ADVICE.sub(" [advice that could run code is left out]", text)


def first_line(error: Exception) -> str:
    """First line of an error, `without_advice`."""
    return without_advice(next(iter(str(error).splitlines()), ""))


def parse_json(text: str | bytes) -> Any:
    """As `json.loads`; raises ValueError for deep nesting, too."""
    try:
        return json.loads(text)
    except RecursionError:
        raise InputError("it is nested too deeply") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises OSError or ValueError, whose message does not name the file."""
    content = parse_json(read_text(path))
    if not isinstance(content, dict):
        raise InputError(f"it holds {type(content).__name__}, not an object")
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """The content of a TOML file; raises as `read_json`."""
    try:
        return tomllib.loads(read_text(path))
    except RecursionError:
        raise InputError("it is nested too deeply") from None


def validated(kind: type[Kind], content: Any) -> Kind:
    """Content of a file as a pydantic type; raises InputError that names the first wrong field."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def read_arrays(path: Path, most: int = _MOST_ARRAYS) -> dict[str, np.ndarray]:
    """The arrays of an npz file by name; none may hold Python objects. Sizes are checked before memory is taken.

    Raises:
        InputError: uncompressed they have more than `most` bytes, or they hold objects.
        Exception: the file is damaged; numpy, zipfile and zlib raise errors of many kinds.
    """
    import zipfile

    import numpy as np

    arrays = {}
    with open_file(path, most) as file, zipfile.ZipFile(file) as archive:
        if (size := sum(entry.file_size for entry in archive.infolist())) > most:
            raise InputError(f"its arrays have {size:,} bytes, and {most:,} at most are read")
        for entry in archive.infolist():
            with archive.open(entry) as content:
                version = np.lib.format.read_magic(content)
                read_header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
                shape, _, dtype = read_header[version[0]](content)
                if dtype.hasobject:
                    raise InputError("it holds Python objects, which could run code")
                if int(np.prod(shape, dtype=object)) * dtype.itemsize > entry.file_size:
                    raise InputError(f"{entry.filename} is shorter than its header says")
            with archive.open(entry) as content:
                array = np.lib.format.read_array(content, allow_pickle=False)
            arrays[entry.filename.removesuffix(".npy")] = array
    return arrays


def refuse_large_table(path: Path) -> None:
    """Raise TooLarge for a parquet file that would not fit into memory, according to its header.

    Raises:
        OSError, ValueError: it is damaged.
    """
    from pyarrow import parquet

    with open_file(path) as file:
        facts = parquet.read_metadata(file)
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    values = sum(max((g.column(i).num_values for i in range(g.num_columns)), default=0) for g in groups)
    refuse_memory(max(2 * sum(group.total_byte_size for group in groups), _BYTES_PER_VALUE * values))


def most_values() -> int:
    """The largest number of numbers in lists that is read: they take half of the memory."""
    return machine_memory() // 2 // _BYTES_PER_VALUE


def refuse_memory(size: int) -> None:
    """Raise TooLarge if something needs more than half of the memory of this machine."""
    if 2 * size > (memory := machine_memory()):
        here = f"half of the {memory / 2**30:,.1f} GiB of this machine"
        raise TooLarge(f"reading it takes {size / 2**30:,.1f} GiB of memory, more than {here}; read it on a larger one")


def machine_memory() -> int:
    """Bytes of memory that this process may use: of the machine, of its container, or of `ulimit -v`."""
    if os.name == "nt":
        kib = ctypes.c_ulonglong()
        ctypes.windll.kernel32.GetPhysicallyInstalledSystemMemory(ctypes.byref(kib))  # type: ignore[attr-defined]
        return kib.value * 1024
    import resource  # Windows has none

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    whole = whole if limit == resource.RLIM_INFINITY else min(whole, limit)
    return min(whole, _container_memory() or whole)


@cache
def _container_memory() -> int:
    """The limit of this container; 0 without one. Read once: a database asks for it with every block."""
    with suppress(OSError, ValueError):  # without a limit the file holds the word `max`
        return int(Path("/sys/fs/cgroup/memory.max").read_text())
    return 0
