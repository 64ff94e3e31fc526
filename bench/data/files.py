"""Read images from files: parquet tables of encoded images, and folders with a subfolder for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.pixels import Encoded
from bench.data.split import DataError
from bench.files import parse_json, refuse_large_table

_IMAGES = ("img", "image")
_LABELS = ("label", "fine_label", "labels")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm")
_MOST_CLASSES = 1_000_000
_PARTS = {"test": ("test", "val", "validation"), "train": ("train",), "val": ("val", "validation")}


def _column(known: Sequence[str], path: Path, names: Sequence[str]) -> str:
    """The first of the known column names that a table has; DataError if it has none."""
    name = next((name for name in known if name in names), None)
    if name is None:
        raise DataError(
            f"{path} has no column {' or '.join(known)}; it has {', '.join(names) or 'none'}. A table of images holds "
            "img (PNG or JPEG, as bytes) and label (whole numbers), as the hub's cifar10 does"
        )
    return name


def read_table(path: Path) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels `[N]` int64 and class names of a parquet file.

    Raises:
        DataError: the file cannot be read, lacks a column, or has invalid values.
    """
    import pyarrow.parquet as pq

    try:
        refuse_large_table(path)
        schema = pq.read_schema(path)
        images, labels = _column(_IMAGES, path, schema.names), _column(_LABELS, path, schema.names)
        table = pq.read_table(path, columns=[images, labels])
        encoded = [value["bytes"] if isinstance(value, dict) else value for value in table[images].to_pylist()]
        numbers = table[labels].to_numpy().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError) as error:  # pyarrow's errors are ValueErrors and OSErrors
        raise DataError(f"{path} cannot be read as a table of images ({error}); restore it") from error
    if not encoded or not all(isinstance(data, bytes) for data in encoded):
        raise DataError(f"{path}: column {images} must hold encoded images (bytes), at least one")
    if numbers.min() < 0 or numbers.max() >= _MOST_CLASSES:
        raise DataError(f"{path}: column {labels} must hold class numbers from 0 to {_MOST_CLASSES - 1:,}")
    return encoded, numbers, _class_names(schema.metadata, labels, numbers)


def _class_names(metadata: Any, label: str, numbers: np.ndarray) -> tuple[str, ...]:
    """Class names from the metadata that the library `datasets` writes; else the label numbers as text."""
    try:
        names = parse_json(metadata[b"huggingface"])["info"]["features"][label]["names"]
    except (TypeError, KeyError, ValueError):
        names = []
    named = isinstance(names, list) and len(names) > numbers.max()
    return tuple(map(str, names)) if named else tuple(str(i) for i in range(int(numbers.max()) + 1))


def table_of(root: Path, part: str) -> Path:
    """The parquet file of a part (`test`, `train`, `val`) in a folder. A file instead of a folder is the test part.

    Raises:
        DataError: there is no such file, or several.
    """
    if root.is_file() and part == "test":
        return root
    for name in _PARTS[part]:
        paths = [path for path in (root / f"{name}.parquet", *sorted(root.glob(f"{name}-*.parquet"))) if path.is_file()]
        if len(paths) == 1:
            return paths[0]
        if paths:
            raise DataError(
                f"{root} has several files of the {part} part ({', '.join(p.name for p in paths)}); join them"
            )
    raise DataError(
        f"{root / _PARTS[part][0]}.parquet is missing: it must hold columns img (bytes) and label, as the "
        "hub's cifar10 does"
    )


def read_folder(root: Path, part: str, size: int | None) -> tuple[Encoded, np.ndarray, tuple[str, ...]]:
    """Images, labels and class names of a folder with a subfolder for each class, sorted by name: `ROOT/CLASS/*.png`.

    Subfolders of ROOT named `test`, `val`, `train` and so on (see `_PARTS`) are parts; without them ROOT is `test`.

    Parameters:
        size: see `Encoded`.

    Raises:
        DataError: there is no such folder or part, or no image in it.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; `data` must name one with a subfolder of images for each class")
    has_parts = any((root / name).is_dir() for names in _PARTS.values() for name in names)
    whole = root if part == "test" and not has_parts else None
    folder = next((root / name for name in _PARTS[part] if (root / name).is_dir()), whole)
    if folder is None:
        raise DataError(f"{root} has no part `{part}`: it must have a subfolder {' or '.join(_PARTS[part])}")
    classes = sorted(path for path in folder.iterdir() if path.is_dir())
    by_class = [sorted(f for f in path.iterdir() if f.suffix.lower() in _SUFFIXES) for path in classes]
    files = [file for members in by_class for file in members]
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(_SUFFIXES)}) in subfolders, one for each class")
    labels = np.repeat(np.arange(len(classes)), [len(members) for members in by_class])
    return Encoded.of_files(files, size), labels.astype(np.int64), tuple(path.name for path in classes)
