"""Encoded images (PNG, JPEG, ...) to pixels, at once or one by one."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from bench.errors import PurifyBenchError


class PixelError(PurifyBenchError, ValueError):
    """An image cannot be read, or is not of the size of the others; the message names it."""


def decode(encoded: list[bytes]) -> np.ndarray:
    """PNG or JPEG bytes -> `[N,3,H,W]` float32 in [0,1]."""
    from PIL import Image

    pixels = np.stack([np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) for data in encoded])
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)).astype(np.float32) / 255


def square(data: bytes, size: int | None) -> np.ndarray:
    """One encoded image as `[3,H,W]` float32 in [0,1], at `size` by `size` where that is given.

    As in the data of the 64-pixel diffusion models (Dhariwal and Nichol 2021): halved by area while it is at least
    twice as large, scaled by a bicubic filter until its shorter edge has `size` pixels, its centre cut out.
    """
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    if size is not None:
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)).astype(np.float32) / 255


@dataclass(frozen=True)
class Encoded:
    """Images that are decoded when they are asked for: a sweep needs few of the many that a data set has.

    Attributes:
        names: what an image is called, file or row.
        read: the encoded image at an index.
        stamp: what stands for the content of all of them in a result's identity.
        size: side of the square to which images are cut and scaled; None leaves them, and they must be of one size.
    """

    names: Sequence[str]
    read: Callable[[int], bytes]
    stamp: str
    size: int | None = None

    @classmethod
    def of_files(cls, files: Sequence[Path], size: int | None) -> Encoded:
        """Images in files; names and lengths stand for their content, which may be too much to read each time."""
        names = [f"{file.parent.name}/{file.name}" for file in files]
        facts = "\n".join(f"{name} {file.stat().st_size}" for name, file in zip(names, files, strict=True))
        return cls(names, lambda i: files[i].read_bytes(), facts, size)

    @classmethod
    def of_bytes(cls, encoded: Sequence[bytes], size: int | None) -> Encoded:
        """Images in memory."""
        content = hashlib.sha256(b"".join(encoded)).hexdigest()
        return cls([f"row {i}" for i in range(len(encoded))], lambda i: encoded[i], content, size)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.pixels(0).shape

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: Sequence[int]) -> np.ndarray: ...

    def __getitem__(self, index: int | Sequence[int]) -> np.ndarray:
        """The image at an index, `[3,H,W]`, or those at some, `[N,3,H,W]`; raises PixelError."""
        if isinstance(index, Sequence):
            return np.stack([self[i] for i in index])
        pixels = self.pixels(index)
        if pixels.shape != self.shape[1:]:
            raise PixelError(
                f"{self.names[index]} has {pixels.shape[2]}x{pixels.shape[1]} pixels, {self.names[0]} has "
                f"{self.shape[3]}x{self.shape[2]}; give the preset a `size` to which all are cut and scaled"
            )
        return pixels

    def pixels(self, index: int) -> np.ndarray:
        from PIL import UnidentifiedImageError

        try:
            return square(self.read(index), self.size)
        except (OSError, UnidentifiedImageError) as error:
            raise PixelError(
                f"{self.names[index]} cannot be read as an image ({error}); restore or remove it"
            ) from error

    def identity(self) -> bytes:
        """What stands for all pixels without decoding them."""
        return hashlib.sha256(f"{self.size} {self.stamp}".encode()).digest()
