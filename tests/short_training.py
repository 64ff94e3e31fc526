"""Stages of a training for a moment: whether they work, not what they reach."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from bench.training import stage

_IMAGES = 260
_SMALL = {"widths": [8, 16], "groups": 4}


def shorten(patch: Any, validated: int = 50, batch: int | None = 16, small: bool = False) -> None:
    """Few images, small batches and figures of few validation images for the stages that are trained from now on.

    Parameters:
        patch: pytest's monkeypatch.
        validated: validation images of a figure.
        batch: most images of a training step; None leaves the recipes as they are.
        small: denoisers of few channels, for trainings that start from no bundled one.
    """
    recipe_of, read_images = stage._recipe_of, stage.read_images

    def in_small_batches(*arguments: Any) -> dict[str, Any]:
        recipe = recipe_of(*arguments)
        for part in recipe.values():
            if isinstance(part, dict) and "batch" in part:
                part["batch"] = min(part["batch"], batch or part["batch"])
        if small:
            recipe["architecture"] = recipe.get("architecture", {}) | _SMALL
        return recipe

    def few(*arguments: Any) -> stage.TrainingImages:
        images = read_images(*arguments)
        names = ("train", "train_labels", "val", "val_labels")
        return replace(images, **{name: getattr(images, name)[:_IMAGES] for name in names})

    patch.setattr(stage, "_recipe_of", in_small_batches)
    patch.setattr(stage, "read_images", few)
    for name, most in (("_LEAST_ROWS", validated), ("_CURVE_IMAGES", validated), ("_RATIO_IMAGES", validated // 6)):
        patch.setattr(stage, name, most)
