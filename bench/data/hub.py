"""Data sets of the Hugging Face hub."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.data.pixels import Encoded
from bench.data.split import DATA_FOLDER, DataError


def hub_table(repository: str, split: str, image: str, by_hand: str, files: str | None = None) -> Any:
    """A split of a data set on the hub, images left encoded.

    Parameters:
        by_hand: what to put where there is no connection.
        files: pattern of the split's files, where only they are to be downloaded.

    Raises:
        DataError: `datasets` is missing, or the hub cannot be reached.
    """
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"the hub's {repository} needs `pip install purifybench[hub]`") from error
    chosen = {"data_files": {split: files}, "verification_mode": "no_checks"} if files else {}
    try:
        table: Any = datasets.load_dataset(repository, split=split, **chosen)
        return table.cast_column(image, datasets.Image(decode=False))
    except Exception as error:  # the library raises many kinds of its own; all mean the same here
        raise DataError(
            f"{repository} could not be fetched from the hub ({type(error).__name__}: {error}). Offline: put "
            f"{by_hand} into a folder and name it with --data, or set {DATA_FOLDER}; mnist5k needs no download"
        ) from error


def hub_images(repository: str, split: str, image: str, label: str) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels and names of the classes of a data set on the hub."""
    table = hub_table(repository, split, image, f"{split}.parquet")
    encoded = [row["bytes"] for row in table[image]]
    return encoded, np.asarray(table[label], np.int64), names_of(table, label)


def hub_encoded(table: Any, image: str, label: str, size: int) -> tuple[Encoded, np.ndarray, tuple[str, ...]]:
    """The same, images read from the hub's cache one by one; their number and labels stand for their content."""
    labels = np.asarray(table[label], np.int64)
    names = [f"row {i}" for i in range(len(labels))]
    stamp = f"hub, {len(labels)} images"
    return Encoded(names, lambda i: table[i][image]["bytes"], stamp, size), labels, names_of(table, label)


def names_of(table: Any, label: str) -> tuple[str, ...]:
    return tuple(table.features[label].names)
