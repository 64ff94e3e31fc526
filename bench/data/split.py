"""A split of a data set: images and labels by index, and the rules by which a sweep selects images."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from platformdirs import user_cache_path

from bench.data.pixels import Encoded
from bench.errors import InputError, PurifyBenchError
from bench.files import read_toml

DATA_FOLDER = "PURIFYBENCH_DATA"  # environment variable: folder of data sets, instead of the user's cache
TABLE = read_toml(Path(__file__).with_name("datasets.toml"))


class DataError(PurifyBenchError):
    """A data set is missing or invalid; the message names the attempt and a remedy that works offline."""


def by_hand(dataset: str) -> Path:
    """The folder (or file) for a data set that a user provides without the hub."""
    folder = os.environ.get(DATA_FOLDER)
    root = Path(folder).expanduser() if folder else user_cache_path("purifybench", appauthor=False) / "data"
    return root / dataset


@dataclass(frozen=True)
class Split:
    """Images `[N,C,H,W]` float32 in [0,1], labels `[N]` int64 and class names of one split.

    Attributes:
        dataset: name of the data set that was read; it differs from the requested one if files with the schema of
            `cifar10` contain JPEGs (`cifar10-jpeg`).
        part: `train`, `val` or `test`.
        interleaved: whether classes alternate from image to image. Then the first images are balanced over the
            classes, and a stride is not.
    """

    dataset: str
    images: np.ndarray | Encoded
    labels: np.ndarray
    classes: tuple[str, ...]
    part: str = "test"
    interleaved: bool = False

    @property
    def title(self) -> str:
        """The data set's name in reports and plots."""
        return TABLE["titles"].get(self.dataset, self.dataset)

    def pick(self, count: int) -> list[int]:
        """Indices of `count` images, balanced over the classes.

        They have an even stride (0, k, 2k, ..., as in the published protocols: Cohen et al. 2019), or are the first
        images of an interleaved split.

        Raises:
            ValueError: the split has fewer images.
        """
        if not 1 <= count <= len(self.images):
            raise InputError(f"images must lie between 1 and {len(self.images)} for {self.dataset}, got {count}")
        return [i if self.interleaved else i * len(self.images) // count for i in range(count)]

    def every(self, step: int, count: int) -> list[int]:
        """The first `count` of the images 0, `step`, 2 `step`, ...; raises ValueError if there are fewer."""
        indices = range(0, len(self.images), step)
        if not 1 <= count <= len(indices):
            raise InputError(
                f"every {step} images there are {len(indices)} of the {len(self.images)} of {self.dataset}, and "
                f"{count} were requested; give fewer `images`, or a smaller `every`"
            )
        return list(indices[:count])

    def pixel_hash(self, index: int) -> str:
        """Sixteen hexadecimal digits of SHA-256 over shape and pixels (little-endian float32) of an image `[C,H,W]`.

        Raises:
            PixelError: the image cannot be decoded.
        """
        image = np.ascontiguousarray(self.images[index], dtype="<f4")
        return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:16]
