"""Classifiers of other projects: their network behind the preprocessing that their configuration describes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from classifiers.base import OPTION, Classifier, ClassifierError, Logits, settled
from classifiers.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageClassifier(Classifier):
    """Base class for models of other projects: preprocessing, with options that reproduce published codes.

    A subclass reads the preprocessing of its model (`configured`) and builds the network (`network`).

    Parameters:
        pixels: `exact`: images unchanged; `round`: to the nearest of the 256 levels of an image file; `truncate`: to
            the level below without clipping, as in the code of Consistency Purification (63 of the 256 levels of a
            clean image lose one step).
        interpolation: `model`: as in the model's configuration; otherwise this one.
        antialias: low-pass filter before downsampling, as in PIL.
        local_votes, local_noise: mean confidence over this number of copies of each image with Gaussian noise of this
            standard deviation ([0,1] pixel units), the same noise for all images: the local smoothing of DiffSmooth
            (Zhang et al. 2023), as in its code. Every copy counts as one row through the network.
        precision: floating-point type of the network; logits are float32. A run resolves `auto` (docs/speed.md).
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
            raise ValueError(f"local_votes = {self.local_votes} copies would be identical; set local_noise as well")

    def configured(self) -> Preprocessing:
        """The preprocessing in the model's configuration.

        Raises:
            ClassifierError: the configuration is missing or has an unsupported step.
        """
        raise NotImplementedError

    def network(self) -> nn.Module:
        """The network alone, in float32 on the CPU: normalised images `[B,C,H,W]` -> logits `[B,K]`.

        Raises:
            ClassifierError: the network cannot be built.
        """
        raise NotImplementedError

    def steps(self) -> Preprocessing:
        """The configured preprocessing, changed by the parameters."""
        configured = self.configured()
        mode = configured.mode if self.interpolation == "model" else self.interpolation
        return replace(configured, mode=mode, antialias=self.antialias and mode != "nearest")

    def preprocessing(self) -> dict[str, Any]:
        return {"pixels": self.pixels, **asdict(self.steps())}

    def load(self, device: str = "cpu") -> Logits:
        from classifiers.nets.pipeline import Pipeline

        noise = self.local_votes, self.local_noise
        return Pipeline(self.network(), self.steps(), self.pixels, *noise, settled(self.precision)).ready(device)


@dataclass(frozen=True)
class HubModel(ImageClassifier):
    """Base class for models of the Hugging Face hub: a name or a folder, and a file that describes the preprocessing.

    A subclass lists its files, that file last, and reads it (`understood`).

    Parameters:
        path: a folder with the model's files, or a hub id.
        pixels: as in `ImageClassifier`; `round` by default, because models of the hub expect pixels of image files.
    """

    path: str
    pixels: Literal["exact", "round", "truncate"] = field(default="round", kw_only=True, metadata=OPTION)

    def settings(self) -> dict[str, Any]:
        """Content of the file that describes the preprocessing, a JSON object.

        Raises:
            ClassifierError: it cannot be read; the message names it and the remedy.
        """
        path, remedy = self.files()[-1], "restore it from the model's repository"
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise ClassifierError(f"{path} cannot be read ({error}); {remedy}") from error
        if not isinstance(content, dict):
            raise ClassifierError(f"{path} holds no JSON object; {remedy}")
        return content

    def understood(self, settings: Mapping[str, Any]) -> Preprocessing:
        """The preprocessing that `settings` describe; raises ClassifierError for an unsupported step."""
        raise NotImplementedError

    def configured(self) -> Preprocessing:
        settings = self.settings()
        try:
            return self.understood(settings)
        except ClassifierError as error:
            raise ClassifierError(f"{self.files()[-1]}: {error}") from error
