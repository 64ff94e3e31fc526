"""Data sets of the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from bench.data.pixels import Encoded
from bench.data.split import DATA_FOLDER, DataError, by_hand

EXTRA = "pip install purifybench[hub]"


@dataclass(frozen=True)
class Repository:
    """A data set of the hub.

    Attributes:
        name: `organisation/name`.
        size: bytes of a download, roughly.
        image, label: columns.
        test: what its test split is called.
        files: pattern of that split's files, where only they are to be downloaded.
        wanted: what to put by hand where there is no connection, instead of `SPLIT.parquet`.
    """

    name: str
    size: int
    image: str
    label: str
    test: str = "test"
    files: str | None = None
    wanted: str = ""


REPOSITORIES = {
    "cifar10": Repository("uoft-cs/cifar10", 144_000_000, "img", "label"),
    "cifar100": Repository("uoft-cs/cifar100", 142_000_000, "img", "fine_label"),
    "imagenet64": Repository(
        "ILSVRC/imagenet-1k",
        6_700_000_000,
        "image",
        "label",
        "validation",
        "data/validation*",
        "the validation images, in one subfolder for each class (n01440764, ...),",
    ),
}


def hub_table(dataset: str, split: str) -> Any:
    """A split (as the hub calls it) of a data set on the hub, images left encoded.

    Raises:
        DataError: `datasets` is missing, or the hub cannot be reached.
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
    except Exception as error:  # the library raises many kinds of its own; all mean the same here
        wanted = repository.wanted or f"{split}.parquet"
        raise DataError(
            f"{repository.name} could not be fetched from the hub ({type(error).__name__}: {error}). Offline: put "
            f"{wanted} into {by_hand(dataset)}, or into a folder that --data or {DATA_FOLDER} names; "
            f"https://huggingface.co/datasets/{repository.name}/tree/main shows the files and their SHA-256. mnist5k "
            "needs no download"
        ) from error


def installed() -> bool:
    """Whether the library is that reads data sets of the hub."""
    return find_spec("datasets") is not None


def cached(dataset: str) -> list[Path]:
    """The files that the hub's library keeps of a test split which it has fetched before; empty where it has not."""
    if dataset not in REPOSITORIES or not installed():
        return []
    from datasets import config

    repository = REPOSITORIES[dataset]
    found = Path(config.HF_DATASETS_CACHE).glob(
        f"{repository.name.replace('/', '___')}/*/*/*/*-{repository.test}*.arrow"
    )
    return sorted(path for path in found if not path.parent.name.endswith(".incomplete"))


def hub_images(dataset: str, split: str) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels and names of the classes of a data set on the hub."""
    repository, table = REPOSITORIES[dataset], hub_table(dataset, split)
    encoded = [row["bytes"] for row in table[repository.image]]
    return encoded, *labels_of(table, repository.label)


def hub_encoded(dataset: str, size: int) -> tuple[Encoded, np.ndarray, tuple[str, ...]]:
    """The same of a test split, images read from the hub's cache one by one; number and labels stand for content."""
    repository = REPOSITORIES[dataset]
    table = hub_table(dataset, repository.test)
    labels, classes = labels_of(table, repository.label)
    names = [f"row {i}" for i in range(len(labels))]
    stamp = f"hub, {len(labels)} images"
    return Encoded(names, lambda i: table[i][repository.image]["bytes"], stamp, size), labels, classes


def labels_of(table: Any, label: str) -> tuple[np.ndarray, tuple[str, ...]]:
    return np.asarray(table[label], np.int64), tuple(table.features[label].names)
