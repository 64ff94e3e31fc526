"""Decode images (PNG, JPEG, ...), all at once or on demand."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.errors import PurifyBenchError
from bench.files import read_bytes


class PixelError(PurifyBenchError, ValueError):
    """An image cannot be read, or differs in size from the others; the message names it."""


_GREY = ("1", "L", "LA", "La")  # Pillow's modes of greyscale images
_DEEP = ("I", "F")  # of greyscale images with more than 8 bits a channel, whose highest bits Pillow would clip


def decode(encoded: list[bytes]) -> np.ndarray:
    """PNG or JPEG bytes -> `[N,3,H,W]` float32 in [0,1]."""
    return np.stack([_square(data, None) for data in encoded])


def _square(data: bytes, size: int | None, grey: bool = False) -> np.ndarray:
    """One encoded image as `[C,H,W]` float32 in [0,1], cropped and scaled to `size` by `size` pixels if given.

    C is 1 for `grey`, else 3.

    The preprocessing of the 64-pixel diffusion models (`center_crop_arr`, Dhariwal and Nichol 2021): box filter to
    half size while the shorter edge is at least `2 size`, bicubic filter until it is `size`, centre crop.
    """
    from PIL import Image

    image: Image.Image = Image.open(io.BytesIO(data))
    mode = image.mode if image.mode.startswith(_DEEP) else _deep_colour(image)
    if mode:
        raise PixelError(f"it has more than 8 bits a channel (mode {mode}), which would be cut off")
    image = image.convert("L" if grey else "RGB")
    if size is not None:
        while min(image.size) >= 2 * size:
            image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
        scale = size / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        left, top = (image.width - size) // 2, (image.height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image)
    pixels = pixels[None] if grey else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels).astype(np.float32) / 255


def _deep_colour(image: Any) -> str:
    """The mode of the file of an opened colour image with 16 bits a channel, such as `RGB;16B`; empty for others."""
    parts = (part[3] for part in getattr(image, "tile", ()))
    modes = (str(part[0] if isinstance(part, tuple) and part else part) for part in parts)
    return next((mode for mode in modes if ";16" in mode), "")


def _is_grey(data: bytes) -> bool:
    """Whether an encoded image is greyscale; True for an unreadable one, which is refused when it is decoded."""
    from PIL import Image

    try:
        return Image.open(io.BytesIO(data)).mode in _GREY
    except OSError:
        return True


def decoder_versions() -> dict[str, str]:
    """The versions of the libraries that decode images: Pillow, and its JPEG library, whose pixels differ."""
    import PIL
    from PIL import features

    jpeg = features.version("libjpeg_turbo") or features.version("jpg")
    return {"pillow": PIL.__version__} | ({"libjpeg": str(jpeg)} if jpeg else {})


@dataclass(frozen=True)
class Encoded:
    """Images that are decoded on access, because a sweep uses few images of a large data set.

    Attributes:
        names: name of each image (file or row) for messages.
        read: returns the encoded image at an index.
        size: images are cropped and scaled to `size` by `size` pixels; None keeps them, and all must have one size.
        colour: they have three channels even if all of them are greyscale.
    """

    names: Sequence[str]
    read: Callable[[int], bytes]
    size: int | None = None
    colour: bool = False

    @classmethod
    def of_files(cls, files: Sequence[Path], size: int | None) -> Encoded:
        """Images in files."""
        return cls([f"{file.parent.name}/{file.name}" for file in files], lambda i: read_bytes(files[i]), size)

    @classmethod
    def of_bytes(cls, encoded: Sequence[bytes], size: int | None) -> Encoded:
        """Images in memory."""
        return cls([f"row {i}" for i in range(len(encoded))], lambda i: encoded[i], size)

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def grey(self) -> bool:
        """Whether the images have one channel: all of them are greyscale files, whatever their pixels."""
        return not self.colour and all(_is_grey(self.read(i)) for i in range(len(self)))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.pixels(0).shape

    def __getitem__(self, index: int | Sequence[int]) -> np.ndarray:
        """The image at an index, `[3,H,W]`, or at several, `[N,3,H,W]`; float32 in [0,1]. Raises PixelError."""
        if isinstance(index, Sequence):
            return np.stack([self[i] for i in index])
        pixels = self.pixels(index)
        if pixels.shape != self.shape[1:]:
            raise PixelError(
                f"{self.names[index]} has {pixels.shape[2]}x{pixels.shape[1]} pixels, {self.names[0]} has "
                f"{self.shape[3]}x{self.shape[2]}; set `size` in the preset to crop and scale all of them"
            )
        return pixels

    def pixels(self, index: int) -> np.ndarray:
        from PIL import Image

        try:
            return _square(self.read(index), self.size, self.grey)
        except PixelError as error:
            raise PixelError(f"{self.names[index]}: {error}; save it with 8") from error
        except (OSError, Image.DecompressionBombError) as error:  # Pillow's other errors are OSErrors
            raise PixelError(
                f"{self.names[index]} cannot be read as an image ({error}); restore or remove it"
            ) from error
