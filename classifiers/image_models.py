"""Classifiers of other projects: their network behind the preprocessing that their configuration describes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from classifiers.base import OPTION, Classifier, ClassifierError, Logits, settled
from classifiers.preprocessing import Preprocessing

if TYPE_CHECKING:
    from torch import nn


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
