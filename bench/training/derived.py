"""Training recipes for own images, derived from their size and number."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from bench import data
from bench.errors import InputError
from bench.training.jobs import Job, read_recipe

_LEAST_SIDE = 8  # pixels; the classifiers halve it three times
_GRID = 16  # most rows of the grid of patches that a network works on
_LEAST_BATCHES = 8  # of an epoch of a classifier, so that a few images make more than one step
_SHIFT = 1 / 16  # of the side: how far a classifier's training images are moved
_OWN = "own"  # the recipes with everything but these
LONG = ("cm", "cm-ft")  # stages of own images that are trained only on request


class Images(NamedTuple):
    """What a recipe is derived from: the number of training images, their channels, and their side in pixels."""

    number: int
    channels: int
    side: int


def images_of(job: Job) -> Images | None:
    """The training images of a job with own images; None for a data set with recipes of its own.

    Raises:
        DataError: the images are missing or cannot be read.
        InputError: networks cannot be made for their size.
    """
    if job.dataset not in data.OWN:
        return None
    split = data.load(job.dataset, "train", job.data, job.size)
    count, channels, height, width = split.images.shape
    data.load(job.dataset, "val", job.data, job.size)
    side = min(height, width)
    multiple = 2 * _patch(side)
    if height != width or side % multiple or side < _LEAST_SIDE:
        raise InputError(
            f"the training images of {job.data} have {width}x{height} pixels, and networks are made for squares whose "
            f"side is a multiple of {multiple}, and at least {_LEAST_SIDE}: give "
            f"`--size {max(_LEAST_SIDE, round(side / multiple) * multiple)}` to cut and scale them"
        )
    return Images(count, channels, side)


def derive(package: str, images: Images) -> dict[str, Any]:
    """The recipe of a package (`purifiers` or `classifiers`) for own images."""
    recipe = read_recipe(package, _OWN)
    return (_classifiers if package == "classifiers" else _denoisers)(recipe, images)


def described(images: Images, job: Job) -> str:
    """The derived recipes in a sentence."""
    classifiers, denoisers = (derive(package, images) for package in ("classifiers", "purifiers"))
    architecture, seen = denoisers["architecture"], denoisers["edm"]["steps"] * denoisers["edm"]["batch"]
    epochs = max(1, round(classifiers["classifier"]["epochs"] * job.scale))
    return (
        f"recipes derived from {images.number:,} training images of {images.channels}x{images.side}x{images.side} "
        f"(channels x height x width): denoisers of widths {architecture['widths']} over patches of "
        f"{architecture['unshuffle']} pixels see {round(seen * job.scale):,} images each, the classifier has {epochs} "
        "epochs. --scale changes the lengths"
    )


def _patch(side: int) -> int:
    """The side of the patches: the smallest power of two that leaves at most `_GRID` of them in a row."""
    return 2 ** max(0, math.ceil(math.log2(side / _GRID)))


def _is_large(images: Images, large: dict[str, Any]) -> bool:
    return images.channels > 1 or images.number >= large["many"]


def _seen(settings: dict[str, Any], count: int) -> int:
    """Images that a stage sees in all; takes these fields out of its settings."""
    passes, least, most = (settings.pop(name) for name in ("passes", "least", "most"))
    return min(most, max(least, passes * count))


def _denoisers(recipe: dict[str, Any], images: Images) -> dict[str, Any]:
    large = recipe.pop("large")
    patch = _patch(images.side)
    levels = large["widths"] if _is_large(images, large) else recipe["architecture"]["widths"]
    while images.side % (patch * 2 ** (len(levels) - 1)):
        levels = levels[:-1]
    recipe["architecture"] |= {"widths": levels, "unshuffle": patch}
    for settings in (value for value in recipe.values() if isinstance(value, dict) and "passes" in value):
        settings["steps"] = max(1, _seen(settings, images.number) // settings["batch"])
    return recipe


def _classifiers(recipe: dict[str, Any], images: Images) -> dict[str, Any]:
    many = read_recipe("purifiers", _OWN)["large"]
    for settings in recipe.values():
        settings["batch"] = max(1, min(settings["batch"], images.number // _LEAST_BATCHES))
        settings["epochs"] = max(1, _seen(settings, images.number) // images.number)
        settings["shift"] = images.side * _SHIFT
        large = settings.pop("large", None)
        if architecture := settings.get("architecture"):
            architecture |= large if _is_large(images, many) else {}
            architecture["unshuffle"] = _patch(images.side)
    return recipe
