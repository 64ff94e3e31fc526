"""Data sets on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.pixels import Encoded
from bench.data.split import DATA_FOLDER, TABLE, DataError, by_hand

EXTRA = "pip install purifybench[hub]"


@dataclass(frozen=True)
class _Repository:
    """A data set on the hub.

    Attributes:
        name: `organisation/name`.
        size: approximate size of the download in bytes.
        image, label: names of the columns.
        test: name of the test split.
        files: pattern of the test split's files, if no others are to be downloaded.
        offline: description of the files that a user without a connection must provide; "" for `SPLIT.parquet`.
    """

    name: str
    size: int
    image: str
    label: str
    test: str = "test"
    files: str | None = None
    offline: str = ""


REPOSITORIES = {dataset: _Repository(**facts) for dataset, facts in TABLE["hub"].items()}


def _hub_table(dataset: str, split: str) -> Any:
    """A split (by its name on the hub) of a data set on the hub, with its images still encoded.

    Raises:
        DataError: the library `datasets` is missing, or the hub cannot be reached.
    """
    repository = REPOSITORIES[dataset]
    if not installed():
        raise DataError(f"the hub's {repository.name} needs `{EXTRA}`")
    import datasets

    files = repository.files
    chosen = {"data_files": {split: files}, "verification_mode": "no_checks"} if files else {}
    try:
        table: Any = datasets.load_dataset(repository.name, split=split, **chosen)
        return table.cast_column(repository.image, datasets.Image(decode=False))
    except Exception as error:  # the library raises many kinds of errors; the remedy is the same
        wanted = repository.offline or f"{split}.parquet"
        raise DataError(
            f"{repository.name} could not be fetched from the hub ({type(error).__name__}: {error}). Offline: put "
            f"{wanted} into {by_hand(dataset)}, or into a folder that --data or {DATA_FOLDER} names; "
            f"https://huggingface.co/datasets/{repository.name}/tree/main shows the files and their SHA-256. mnist5k "
            "needs no download"
        ) from error


def installed() -> bool:
    """Whether the library `datasets`, which reads data sets of the hub, is installed."""
    return find_spec("datasets") is not None


def cached(dataset: str) -> list[Path]:
    """The cached files of a test split that `datasets` has downloaded before; empty if it has not."""
    if dataset not in REPOSITORIES or not installed():
        return []
    from datasets import config

    repository = REPOSITORIES[dataset]
    folder = Path(config.HF_DATASETS_CACHE) / repository.name.replace("/", "___")
    paths = folder.glob(f"*/*/*/*-{repository.test}*.arrow")
    return sorted(path for path in paths if not path.parent.name.endswith(".incomplete"))


def hub_images(dataset: str, split: str) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels `[N]` int64 and class names of a split on the hub."""
    repository, table = REPOSITORIES[dataset], _hub_table(dataset, split)
    encoded = [row["bytes"] for row in table[repository.image]]
    return encoded, *_labels_of(table, repository.label)


def hub_encoded(dataset: str, size: int) -> tuple[Encoded, np.ndarray, tuple[str, ...]]:
    """As `hub_images` for a test split, but images are read one by one from the cache of `datasets`."""
    repository = REPOSITORIES[dataset]
    table = _hub_table(dataset, repository.test)
    labels, classes = _labels_of(table, repository.label)
    names = [f"row {i}" for i in range(len(labels))]
    return Encoded(names, lambda i: table[i][repository.image]["bytes"], size, colour=True), labels, classes


def _labels_of(table: Any, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    return np.asarray(table[label], np.int64), tuple(table.features[label].names)
