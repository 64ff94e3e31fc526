"""Compare the preprocessing of a model with that of its own library, on one image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from classifiers.base import ClassifierError
from classifiers.hub import brief
from classifiers.nets.pipeline import LEVELS, Pipeline
from classifiers.preprocessing import Preprocessing

_SIDE = 32
_TOLERANCE = 2.0  # levels of an image file: libraries round resized images, by one level at most


def check_processor(folder: Path, steps: Preprocessing) -> None:
    """Compare `steps` with the image processor of transformers for a folder.

    The configuration does not determine a processor: some classes crop, flip or normalise by rules of their own.

    Raises:
        ClassifierError: transformers cannot build the processor, or its output differs.
    """
    from transformers import AutoImageProcessor

    image = _probe()
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        wanted = processor(image.permute(1, 2, 0).numpy(), return_tensors="pt")["pixel_values"]
    except Exception as error:  # a damaged file, an unknown processor: each library raises its own errors
        raise ClassifierError(f"{folder}: transformers cannot make its image processor ({brief(error)})") from error
    got = Pipeline(nn.Identity(), steps).ready("cpu")(image[None].float() / LEVELS)
    level = 1 / LEVELS / min(steps.std, default=1.0)
    if got.shape != wanted.shape or float((got - wanted).abs().max()) > _TOLERANCE * level:
        raise ClassifierError(
            f"{folder}: its {type(processor).__name__} does more to an image than resize, crop and normalise it as "
            "preprocessor_config.json says, and that is not supported; use the same model of timm, or a plugin"
        )


def _probe() -> torch.Tensor:
    """A smooth 8-bit image `[3,H,W]`; its channels and sides differ, so that a swap or a flip is detected."""
    y, x = torch.meshgrid(*(torch.linspace(0, 1, _SIDE) for _ in range(2)), indexing="ij")
    return (64 + 127 * torch.stack([x, y, (x * x + y) / 2])).round().byte()
