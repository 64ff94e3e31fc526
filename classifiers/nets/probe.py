"""Whether our preprocessing of a model is that of its own library, seen on one image."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from classifiers.base import ClassifierError
from classifiers.nets.pipeline import LEVELS, Pipeline
from classifiers.preprocessing import Preprocessing

SIDE = 32
TOLERANCE = 2.0  # levels of an image file: libraries round what they have resized, by a level or less


def check_processor(folder: Path, steps: Preprocessing) -> None:
    """Compare `steps` with the image processor that transformers makes of a folder.

    A configuration does not say all that a processor does: some cut, flip or normalise by rules of their own.

    Raises:
        ClassifierError: there is no such processor, or it does something else.
    """
    from transformers import AutoImageProcessor

    image = probe()
    try:
        processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        wanted = processor(image.permute(1, 2, 0).numpy(), return_tensors="pt")["pixel_values"]
    except Exception as error:  # a damaged file, an unknown processor: each library has errors of its own
        problem = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ClassifierError(f"{folder}: transformers cannot make its image processor ({problem})") from error
    got = Pipeline(nn.Identity(), steps).ready("cpu")(image[None].float() / LEVELS)
    level = 1 / LEVELS / min(steps.std, default=1.0)
    if got.shape != wanted.shape or float((got - wanted).abs().max()) > TOLERANCE * level:
        raise ClassifierError(
            f"{folder}: its {type(processor).__name__} does more to an image than resize, crop and normalise it as "
            "preprocessor_config.json says, and that is not supported; use the same model of timm, or a plugin"
        )


def probe() -> torch.Tensor:
    """An 8-bit image `[3,H,W]` without edges, whose channels and sides are told apart and stay within 0 and 255."""
    y, x = torch.meshgrid(*(torch.linspace(0, 1, SIDE) for _ in range(2)), indexing="ij")
    return (64 + 127 * torch.stack([x, y, (x * x + y) / 2])).round().byte()
