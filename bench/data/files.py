"""Images in files: parquet tables with encoded images, and folders with a subfolder for each class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.pixels import Encoded
from bench.data.split import DataError

IMAGES = ("img", "image")
LABELS = ("label", "fine_label", "labels")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
PARTS = {"test": ("test", "val", "validation"), "train": ("train",), "val": ("val", "validation")}


def column(known: Sequence[str], path: Path, names: Sequence[str]) -> str:
    found = next((name for name in known if name in names), None)
    if found is None:
        raise DataError(
            f"{path} has no column {' or '.join(known)}; it has {', '.join(names) or 'none'}. A table of images holds "
            "img (PNG or JPEG, as bytes) and label (whole numbers), as the hub's cifar10 does"
        )
    return found


def read_table(path: Path) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels and the names of the classes of a parquet file.

    Raises:
        DataError: it cannot be read, or lacks a column.
    """
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
        images, labels = column(IMAGES, path, schema.names), column(LABELS, path, schema.names)
        table = pq.read_table(path, columns=[images, labels])
        encoded = [value["bytes"] if isinstance(value, dict) else value for value in table[images].to_pylist()]
        numbers = table[labels].to_numpy().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise DataError(f"{path} cannot be read as a table of images ({error}); restore it") from error
    if not encoded or not all(isinstance(data, bytes) for data in encoded):
        raise DataError(f"{path}: column {images} must hold encoded images (bytes), one at least")
    if numbers.min() < 0:
        raise DataError(f"{path}: column {labels} has negative labels; classes are counted from 0")
    return encoded, numbers, class_names(schema.metadata, labels, numbers)


def class_names(metadata: Any, label: str, numbers: np.ndarray) -> tuple[str, ...]:
    """The names that `datasets` writes into a file's metadata, or the numbers themselves."""
    try:
        names = json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        names = []
    return tuple(names) if len(names) > numbers.max() else tuple(str(i) for i in range(int(numbers.max()) + 1))


def table_of(root: Path, part: str) -> Path:
    """The parquet file of a part (`test`, `train`, `val`) in a folder, or the file itself, which is the test part.

    Raises:
        DataError: there is none, or several.
    """
    if root.is_file() and part == "test":
        return root
    for name in PARTS[part]:
        found = [path for path in (root / f"{name}.parquet", *sorted(root.glob(f"{name}-*.parquet"))) if path.is_file()]
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{root} has several files of the {part} part ({', '.join(p.name for p in found)}); join them"
            )
    raise DataError(
        f"{root / PARTS[part][0]}.parquet is missing: it must hold columns img (bytes) and label, as the hub's cifar10 "
        "does"
    )


def read_folder(root: Path, part: str, size: int | None) -> tuple[Encoded, np.ndarray, tuple[str, ...]]:
    """Images of a folder with a subfolder for each class, in the order of names: `ROOT/CLASS/*.png`.

    Where ROOT has subfolders `test` (or `val`), `train` and so on, these are its parts; else it is the test part.

    Raises:
        DataError: there is no such folder, or no image in it.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; `data` must name one with a subfolder of images for each class")
    known = {name for names in PARTS.values() for name in names}
    parted = any((root / name).is_dir() for name in known)
    inside = next((root / name for name in PARTS[part] if (root / name).is_dir()), None) if parted else root
    if inside is None or (part != "test" and not parted):
        raise DataError(f"{root} has no part `{part}`: it must have a subfolder {' or '.join(PARTS[part])}")
    classes = sorted(path for path in inside.iterdir() if path.is_dir())
    by_class = [sorted(f for f in folder.iterdir() if f.suffix.lower() in SUFFIXES) for folder in classes]
    files = [file for found in by_class for file in found]
    if not files:
        raise DataError(f"{inside} has no images ({', '.join(SUFFIXES)}) in subfolders, one for each class")
    labels = np.repeat(np.arange(len(classes)), [len(found) for found in by_class])
    return Encoded.of_files(files, size), labels.astype(np.int64), tuple(folder.name for folder in classes)
