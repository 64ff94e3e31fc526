"""Preprocessing of images for a classifier, and its description in published configurations. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from classifiers.base import ClassifierError

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_PIL_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # the numbers of PIL.Image.Resampling
_TIMM_MODES = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "random": "bilinear"}


@dataclass(frozen=True)
class Preprocessing:
    """Resizing, cropping and normalisation, in this order.

    Attributes:
        mean, std: of each channel, for images in [0,1]; empty for a network that takes images in [0,1].
        resize: height and width, or the length of the shorter edge; None: no resizing.
        mode: `nearest`, `bilinear` or `bicubic`.
        antialias: low-pass filter before downsampling, as in PIL; no effect on upsampling.
        crop: height and width of the central crop.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: tuple[int, int] | int | None = None
    mode: str = "bilinear"
    antialias: bool = True
    crop: tuple[int, int] | None = None

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width after resizing an image of `height` by `width`."""
        if not isinstance(self.resize, int):
            return self.resize or (height, width)
        scale = self.resize / min(height, width)
        return round(height * scale), round(width * scale)


def from_transformers(settings: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in a `preprocessor_config.json` of transformers.

    Raises:
        ClassifierError: an unsupported step.
    """
    if settings.get("do_rescale", True) and not math.isclose(settings.get("rescale_factor", 1 / 255), 1 / 255):
        raise ClassifierError(f"rescale_factor {settings['rescale_factor']} is not 1/255: not supported")
    scale = 1.0 if settings.get("do_rescale", True) else 255.0  # without rescaling, mean and std are of 0..255
    normalised = settings.get("do_normalize", True)
    mean, std = (tuple(v / scale for v in settings.get(k, ())) for k in ("image_mean", "image_std"))
    if normalised and not (mean and len(mean) == len(std)):
        raise ClassifierError("image_mean and image_std are missing or of different length")
    if not normalised:
        mean, std = ((0.0,) * 3, (1 / scale,) * 3) if scale != 1 else ((), ())
    resample = settings.get("resample", 2)
    if settings.get("do_resize", True) and resample not in _PIL_MODES:
        known = ", ".join(f"{k} ({v})" for k, v in _PIL_MODES.items())
        raise ClassifierError(f"resample {resample} is not one of {known}: give `interpolation`")
    cropped = settings.get("do_center_crop", False)
    resize, crop = _extent(settings.get("size")), _sides(_extent(settings.get("crop_size"))) if cropped else None
    if isinstance(resize, int) and not cropped:
        if share := settings.get("crop_pct"):
            # ConvNeXt's processor takes the centre of a larger image; from 384 pixels on, the whole image.
            resize, crop = ((resize, resize), None) if resize >= 384 else (int(resize / share), (resize, resize))
        elif isinstance(settings["size"], int):  # transformers takes a single number as a square
            resize = resize, resize
    resize = resize if settings.get("do_resize", True) else None
    return Preprocessing(mean, std, resize, _PIL_MODES.get(resample, "bilinear"), crop=crop)


def _extent(size: Any) -> tuple[int, int] | int | None:
    """A size in the notation of transformers: height and width, or the shorter edge."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        if {"height", "width"} <= set(size):
            return int(size["height"]), int(size["width"])
        raise ClassifierError(f"size {dict(size)} has neither height and width nor shortest_edge")
    return int(size) if size else None


def _sides(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def from_timm(settings: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in the `pretrained_cfg` of a timm model, with the defaults of timm.

    Raises:
        ClassifierError: an unsupported step.
    """
    _, height, width = settings.get("input_size") or (3, 224, 224)
    mode = settings.get("interpolation") or "bicubic"
    if mode not in _TIMM_MODES:
        raise ClassifierError(f"interpolation {mode!r} is not one of {', '.join(_TIMM_MODES)}: give `interpolation`")
    share, how = settings.get("crop_pct") or 0.875, settings.get("crop_mode") or "center"
    if how not in ("center", "squash"):
        raise ClassifierError(f"crop_mode {how!r} is not one of center, squash: not supported")
    scaled = math.floor(height / share), math.floor(width / share)
    mean, std = (tuple(settings.get(k) or default) for k, default in zip(("mean", "std"), IMAGENET, strict=True))
    shorter = scaled[0] if how == "center" and height == width else scaled
    return Preprocessing(mean, std, shorter, _TIMM_MODES[mode], crop=(height, width))
