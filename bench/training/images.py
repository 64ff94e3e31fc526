"""The images of a training, on its device."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench import data
from bench.files import refuse_memory
from bench.training.derived import Images
from bench.training.jobs import Job


@dataclass(frozen=True)
class TrainingImages:
    """Training and validation images `[N,C,H,W]` in [0,1] and labels `[N]` on the device.

    Attributes:
        dataset: name of the data set.
        classes: number of classes.
        identity: of own images, a hash of the training part, because their data set's name tells nothing; else empty.
    """

    dataset: str
    classes: int
    identity: dict[str, str]
    train: Tensor
    train_labels: Tensor
    val: Tensor
    val_labels: Tensor

    @property
    def facts(self) -> Images:
        """What a recipe is derived from."""
        return Images(len(self.train), self.train.shape[1], self.train.shape[2])


def read_images(job: Job) -> TrainingImages:
    """The images of a job.

    Raises:
        DataError, PixelError: the images are missing, or one cannot be read.
        TooLarge: they do not fit into memory.
    """
    train, val = (data.load(job.dataset, part, job.data, job.size) for part in ("train", "val"))
    refuse_memory(4 * sum(math.prod(split.images.shape) for split in (train, val)))
    pixels = [
        split.images if isinstance(split.images, np.ndarray) else split.images[range(len(split.images))]
        for split in (train, val)
    ]
    identity = {}
    if job.dataset in data.OWN:
        digest = hashlib.sha256(pixels[0].tobytes() + train.labels.tobytes()).hexdigest()
        identity["images_sha256"] = digest
    arrays = pixels[0], train.labels, pixels[1], val.labels
    on_device = (torch.from_numpy(array).to(job.device) for array in arrays)
    return TrainingImages(train.dataset, len(train.classes), identity, *on_device)
