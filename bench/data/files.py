"""Read images from files: parquet tables of encoded images, and folders with a subfolder for each class."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
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
_HELD_OUT = 10  # one of so many training images of a class is for validation, if no others are
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

    Subfolders of ROOT named `test`, `val`, `train` and so on (see `_PARTS`) are parts; without them ROOT is `test`. The
    classes are those of all parts, so that a label means the same in each. See `_source_of` for parts without a folder.

    Parameters:
        size: see `Encoded`.

    Raises:
        DataError: there is no such folder or part, or no image in it.
    """
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; `data` must name one with a subfolder of images for each class")
    parts = {name for names in _PARTS.values() for name in names if (root / name).is_dir()}
    name, shared = _source_of(part, parts)
    if not name and (parts or part != "test"):
        named = " or ".join(_PARTS[part] if part == "test" else ("train",))
        raise DataError(
            f"{root} has no part `{part}`: it must have a subfolder {named}, which holds a subfolder for each class"
        )
    folder = root / name
    folders = [root / one for one in parts] or [root]
    classes = sorted({path.name for one in folders for path in one.iterdir() if _is_class(path)})
    by_class = [sorted(f for f in _members(folder / one) if f.suffix.lower() in _SUFFIXES) for one in classes]
    files = [file for members in by_class for file in members]
    if not files:
        raise DataError(f"{folder} has no images ({', '.join(_SUFFIXES)}) in subfolders, one for each class")
    labels = np.repeat(np.arange(len(classes)), [len(members) for members in by_class]).astype(np.int64)
    rows = _rows_of(part, labels, shared)
    return Encoded.of_files([files[row] for row in rows], size), labels[rows], tuple(classes)


def read_tables(root: Path, part: str, size: int | None) -> tuple[Encoded, np.ndarray, tuple[str, ...]]:
    """As `read_folder`, for a folder with a parquet file for each part, or a single file, which is the part `test`."""
    parts = {
        name
        for names in _PARTS.values()
        for name in names
        if (root / f"{name}.parquet").is_file() or any(root.glob(f"{name}-*.parquet"))
    }
    shared = _source_of(part, parts)[1]
    encoded, labels, classes = read_table(table_of(root, "train" if shared else part))
    rows = _rows_of(part, labels, shared)
    return Encoded.of_bytes([encoded[row] for row in rows], size), labels[rows], classes


def _source_of(part: str, parts: Collection[str]) -> tuple[str, bool]:
    """The name under which the images of a part lie, or "", and whether `train` and `val` share them.

    Files without validation images of their own have a tenth of the training images as `val`. If there are no test
    images, the validation images are `test`, and not `val`, too: choices are made on other images than verdicts.

    Parameters:
        parts: names that there are, of those in `_PARTS`.
    """
    shared = part != "test" and not ("test" in parts and {*_PARTS["val"]} & {*parts})
    return next((name for name in _PARTS["train" if shared else part] if name in parts), ""), shared


def _rows_of(part: str, labels: np.ndarray, shared: bool) -> np.ndarray:
    """The rows of a part: all, or of shared training images the second, twelfth, ... of each class as `val`.

    Raises:
        DataError: no class has two training images.
    """
    if not shared:
        return np.arange(len(labels))
    held_out = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        held_out[np.flatnonzero(labels == label)[1::_HELD_OUT]] = True
    if part == "val" and not held_out.any():
        raise DataError("no class has two training images, of which one could be kept for validation; add images")
    return np.flatnonzero(held_out if part == "val" else ~held_out)


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _members(folder: Path) -> Iterator[Path]:
    return folder.iterdir() if folder.is_dir() else iter(())
