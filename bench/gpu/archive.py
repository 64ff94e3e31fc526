"""A folder as few files of limited size: pieces of one tar archive, which `cat NAME.tar.* | tar x` unpacks, too."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from fnmatch import fnmatch
from pathlib import Path

from bench.errors import InputError
from bench.files import make_folder, read_bytes, read_text, write_file, writing

PIECE = 15 * 2**20  # bytes; what fetches files from a borrowed machine often takes at most 16 MiB each


def pack(folder: Path, archive: Path, name: str, leave_out: Collection[str] = (), piece: int = PIECE) -> list[Path]:
    """Write the files of a folder to `archive/NAME.tar.00`, `.01`, ... and their checksums; returns these paths.

    The pieces of an earlier archive of this name are replaced once all new ones are written.

    Parameters:
        leave_out: patterns of file names.
        piece: most bytes of a file.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    kept = [path for path in files if not any(fnmatch(path.name, pattern) for pattern in leave_out)]
    earlier = set(make_folder(archive).glob(f"{name}.tar.[0-9][0-9]"))
    pieces = _Pieces(archive / f"{name}.tar", piece)
    with pieces.files, pieces, tarfile.open(fileobj=pieces, mode="w|") as tar:
        for path in kept:
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False)
    for old in earlier - set(pieces.paths):
        old.unlink()
    sums = "".join(f"{_digest(read_bytes(path))}  {path.name}\n" for path in pieces.paths)
    return [*pieces.paths, write_file(archive / f"{name}.sha256", sums)]


def unpack(archive: Path, name: str, folder: Path) -> bool:
    """Unpack an archive into a folder; returns False if there is none.

    Raises:
        InputError: a piece is missing or damaged.
    """
    sums = archive / f"{name}.sha256"
    if not sums.is_file():
        return False
    content = b"".join(_checked(archive, line.split()) for line in read_text(sums).splitlines())
    make_folder(folder)
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            tar.extractall(folder, filter="data")  # which refuses paths outside of the folder
    except (tarfile.TarError, OSError) as error:
        raise InputError(f"{archive} cannot be unpacked into {folder} ({error}); give another --out") from error
    return True


def _checked(archive: Path, words: list[str]) -> bytes:
    """The content of a piece, from a line of the checksums."""
    digest, name = words if len(words) == 2 else ("", "")
    path = archive / Path(name).name  # never a path elsewhere
    remedy = "fetch all pieces again, or give another --archive"
    if not path.is_file():
        raise InputError(f"{path} is missing; {remedy}")
    content = read_bytes(path)
    if _digest(content) != digest:
        raise InputError(f"{path} is damaged; {remedy}")
    return content


def describe(paths: Iterable[Path]) -> str:
    """The number and the size of an archive's files."""
    sizes = [path.stat().st_size for path in paths]
    return f"{len(sizes)} files, {sum(sizes) / 2**20:.1f} MiB, the largest {max(sizes) / 2**20:.1f} MiB"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


class _Pieces(io.RawIOBase):
    """A stream that is cut into files of `size` bytes, `PATH.00` and so on, which appear when `files` is closed."""

    def __init__(self, path: Path, size: int):
        super().__init__()
        self.path, self.size = path, size
        self.paths: list[Path] = []
        self.files = ExitStack()
        self.buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.buffer += data
        while len(self.buffer) >= self.size:
            self._cut()
        return len(data)

    def close(self) -> None:
        if self.buffer:
            self._cut()
        super().close()

    def _cut(self) -> None:
        path = self.path.with_name(f"{self.path.name}.{len(self.paths):02d}")
        self.files.enter_context(writing(path)).write(self.buffer[: self.size])
        del self.buffer[: self.size]
        self.paths.append(path)
