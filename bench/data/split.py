"""What a split of a data set is: images and labels by index, and the rules by which a sweep picks from them."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from bench.data.pixels import Encoded
from bench.errors import InputError, PurifyBenchError

DATA_FOLDER = "PURIFYBENCH_DATA"  # environment variable: where data sets are, instead of the user's cache
TITLES = {
    "mnist5k": "MNIST",
    "cifar10": "CIFAR-10",
    "cifar10-jpeg": "CIFAR-10 (JPEG)",
    "cifar100": "CIFAR-100",
    "imagenet64": "ImageNet, validation at 64x64",
    "folder": "a folder of images",
    "parquet": "a table of images",
}


class DataError(PurifyBenchError):
    """A data set cannot be had; the message says what was tried and what works offline."""


def by_hand(dataset: str) -> Path:
    """The folder (or file) in which a data set is put by hand."""
    given = os.environ.get(DATA_FOLDER)
    root = Path(given).expanduser() if given else user_cache_path("purifybench", appauthor=False) / "data"
    return root / dataset


@dataclass(frozen=True)
class Split:
    """Images `[N,C,H,W]` float32 in [0,1] and labels `[N]` int64 of one split, with the names of the classes.

    Attributes:
        dataset: what the images are, which is not always what was asked for: files with the schema of `cifar10` that
            hold JPEGs are `cifar10-jpeg`.
        interleaved: the classes take turns, image by image, so the first images are balanced and a stride is not.
    """

    dataset: str
    images: np.ndarray | Encoded
    labels: np.ndarray
    classes: tuple[str, ...]
    interleaved: bool = False

    @property
    def title(self) -> str:
        """What a reader calls the data set."""
        return TITLES.get(self.dataset, self.dataset)

    def pick(self, count: int) -> list[int]:
        """Indices of `count` images, balanced over the classes; raises ValueError where there are fewer.

        They lie at an even stride (0, k, 2k, ...: the published protocols' choice), or, where the classes take turns,
        at the beginning.
        """
        if not 1 <= count <= len(self.images):
            raise InputError(f"images must lie between 1 and {len(self.images)} for {self.dataset}, got {count}")
        return [i if self.interleaved else i * len(self.images) // count for i in range(count)]

    def every(self, step: int, count: int) -> list[int]:
        """The first `count` of the images 0, `step`, 2 `step`, ...; raises ValueError where there are fewer."""
        found = range(0, len(self.images), step)
        if not 1 <= count <= len(found):
            raise InputError(
                f"every {step} images there are {len(found)} of the {len(self.images)} of {self.dataset}, and "
                f"{count} were asked for; give fewer `images`, or a smaller `every`"
            )
        return list(found[:count])

    def pixel_hash(self, index: int) -> str:
        """Sixteen hexadecimal digits of SHA-256 over the shape and the decoded pixels `[C,H,W]` of an image."""
        image = np.ascontiguousarray(self.images[index], dtype="<f4")
        return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:16]
