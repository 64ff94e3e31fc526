"""How a classifier wants its images, read from the configuration that comes with its weights. Needs no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from classifiers.base import OPTION, Classifier, ClassifierError, Logits, settled

if TYPE_CHECKING:
    from torch import nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PIL_MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # the numbers of PIL.Image.Resampling
TIMM_MODES = {"nearest": "nearest", "bilinear": "bilinear", "bicubic": "bicubic", "random": "bilinear"}


@dataclass(frozen=True)
class Preprocessing:
    """Resize, crop, normalise, in this order.

    Attributes:
        mean, std: of each channel, for images in [0,1]; none where the network takes [0,1] itself.
        resize: height and width, or the length of the shorter edge; None where the network takes any size.
        mode: `nearest`, `bilinear` or `bicubic`.
        antialias: low-pass before making smaller, as PIL does; without effect where images only grow.
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


@dataclass(frozen=True)
class ImageClassifier(Classifier):
    """What the classifiers of other projects share: preprocessing, and what published codes do to it.

    A subclass says what its model's configuration asks for (`configured`) and makes the network (`network`).

    Parameters:
        pixels: `exact`: images as they come; `round`: to the nearest of the 256 levels of an image file; `truncate`: to
            the level below, nothing clipped, as Consistency Purification's code does (63 of the 256 levels of a clean
            image lose one step).
        interpolation: `model` as the model's configuration says, or another one.
        antialias: low-pass before making smaller, as PIL does.
        local_votes, local_noise: mean confidence over so many copies of each image with Gaussian noise of this
            standard deviation ([0,1] pixel units), the same noise for all images: the local smoothing of DiffSmooth
            (Zhang et al. 2023), as its code does it. Every copy is a row through the network, and is counted.
        precision: in which the network computes; its logits are float32. `auto` is settled by a run (docs/speed.md).
    """

    pixels: Literal["exact", "round", "truncate"] = field(default="exact", kw_only=True, metadata=OPTION)
    interpolation: Literal["model", "nearest", "bilinear", "bicubic"] = field(
        default="model", kw_only=True, metadata=OPTION
    )
    antialias: bool = field(default=True, kw_only=True, metadata=OPTION)
    local_votes: int = field(default=1, kw_only=True, metadata=OPTION)
    local_noise: float = field(default=0.0, kw_only=True, metadata=OPTION)
    precision: Literal["fp32", "bf16", "auto"] = field(default="fp32", kw_only=True, metadata=OPTION)

    def __post_init__(self) -> None:
        if self.local_votes < 1:
            raise ValueError(f"local_votes must be at least 1, got {self.local_votes}")
        if not 0 <= self.local_noise < math.inf:
            raise ValueError(f"local_noise must be at least 0, got {self.local_noise}")
        if self.local_votes > 1 and not self.local_noise:
            raise ValueError(f"local_votes = {self.local_votes} copies would be the same; give local_noise as well")

    def configured(self) -> Preprocessing:
        """What the model's own configuration asks for.

        Raises:
            ClassifierError: it is missing, or asks for what is not known here.
        """
        raise NotImplementedError

    def network(self) -> nn.Module:
        """The network alone, in float32 on the CPU: normalised images `[B,C,H,W]` -> logits `[B,K]`.

        Raises:
            ClassifierError: it cannot be made.
        """
        raise NotImplementedError

    def steps(self) -> Preprocessing:
        """The configuration with what the parameters change."""
        asked = self.configured()
        mode = asked.mode if self.interpolation == "model" else self.interpolation
        return replace(asked, mode=mode, antialias=self.antialias and mode != "nearest")

    def preprocessing(self) -> dict[str, Any]:
        return {"pixels": self.pixels, **asdict(self.steps())}

    def load(self, device: str = "cpu") -> Logits:
        from classifiers.nets.pipeline import Pipeline

        noise = self.local_votes, self.local_noise
        return Pipeline(self.network(), self.steps(), self.pixels, *noise, settled(self.precision)).ready(device)


@dataclass(frozen=True)
class HubModel(ImageClassifier):
    """What classifiers of the Hugging Face hub share: a name or a folder, and files that say how images are prepared.

    A subclass names its files, the one that describes the preprocessing last, and reads that (`understood`).

    Parameters:
        path: a folder with the model's files, or a hub id.
        pixels: as for all; a model of the hub expects the pixels of image files, so they are rounded.
    """

    path: str
    pixels: Literal["exact", "round", "truncate"] = field(default="round", kw_only=True, metadata=OPTION)

    def settings(self) -> dict[str, Any]:
        """The table that describes the preprocessing."""
        return read_json(self.files()[-1], "restore it from the model's repository")

    def understood(self, settings: Mapping[str, Any]) -> Preprocessing:
        """What this table asks for; raises ClassifierError for a step that is not known."""
        raise NotImplementedError

    def configured(self) -> Preprocessing:
        settings = self.settings()
        try:
            return self.understood(settings)
        except ClassifierError as error:
            raise ClassifierError(f"{self.files()[-1]}: {error}") from error


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON file that holds a table; raises ClassifierError that names it and the remedy."""
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ClassifierError(f"{path} cannot be read ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise ClassifierError(f"{path} holds no table of settings; {remedy}")
    return content


def from_transformers(settings: Mapping[str, Any]) -> Preprocessing:
    """What a `preprocessor_config.json` of transformers asks for.

    Raises:
        ClassifierError: a step that is not known here.
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
    if settings.get("do_resize", True) and resample not in PIL_MODES:
        known = ", ".join(f"{k} ({v})" for k, v in PIL_MODES.items())
        raise ClassifierError(f"resample {resample} is not one of {known}: give `interpolation`")
    cropped = settings.get("do_center_crop", False)
    resize, crop = extent(settings.get("size")), sides(extent(settings.get("crop_size"))) if cropped else None
    if isinstance(resize, int) and not cropped:
        if settings.get("crop_pct"):
            resize, crop = convnext(resize, settings["crop_pct"])
        elif isinstance(settings["size"], int):  # a number alone is a square, where nothing is cut off later
            resize = resize, resize
    resize = resize if settings.get("do_resize", True) else None
    return Preprocessing(mean, std, resize, PIL_MODES.get(resample, "bilinear"), crop=crop)


def convnext(edge: int, share: float) -> tuple[tuple[int, int] | int, tuple[int, int] | None]:
    """Size and crop of ConvNeXt's processor: a smaller centre of a larger image, or from 384 pixels on all of it."""
    if edge >= 384:
        return (edge, edge), None
    return int(edge / share), (edge, edge)


def extent(size: Any) -> tuple[int, int] | int | None:
    """A size as transformers writes it: height and width, or the shorter edge."""
    if isinstance(size, Mapping):
        if "shortest_edge" in size:
            return int(size["shortest_edge"])
        if {"height", "width"} <= set(size):
            return int(size["height"]), int(size["width"])
        raise ClassifierError(f"size {dict(size)} has neither height and width nor shortest_edge")
    return int(size) if size else None


def sides(size: tuple[int, int] | int | None) -> tuple[int, int] | None:
    return (size, size) if isinstance(size, int) else size


def from_timm(settings: Mapping[str, Any]) -> Preprocessing:
    """What the `pretrained_cfg` of a timm model asks for; its defaults are timm's.

    Raises:
        ClassifierError: a step that is not known here.
    """
    _, height, width = settings.get("input_size") or (3, 224, 224)
    mode = settings.get("interpolation") or "bicubic"
    if mode not in TIMM_MODES:
        raise ClassifierError(f"interpolation {mode!r} is not one of {', '.join(TIMM_MODES)}: give `interpolation`")
    share, how = settings.get("crop_pct") or 0.875, settings.get("crop_mode") or "center"
    if how not in ("center", "squash"):
        raise ClassifierError(f"crop_mode {how!r} is not one of center, squash: not supported")
    scaled = math.floor(height / share), math.floor(width / share)
    mean, std = (tuple(settings.get(k) or default) for k, default in zip(("mean", "std"), IMAGENET, strict=True))
    shorter = scaled[0] if how == "center" and height == width else scaled
    return Preprocessing(mean, std, shorter, TIMM_MODES[mode], crop=(height, width))
