"""The interface of a classifier. Nothing here imports torch at run time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from classifiers.hashing import DIGITS, fingerprint

if TYPE_CHECKING:
    from torch import Tensor

Logits = Callable[["Tensor"], "Tensor"]  # images [B,C,H,W] in [0,1] -> logits [B,K]


# Metadata of an optional parameter: `field(default=..., kw_only=True, metadata=OPTION)`. A cell's identity omits it at
# its default, so that adding the parameter leaves the identity of existing cells unchanged.
OPTION = {"option": True}


class ClassifierError(Exception):
    """A classifier is not available: a file or a library is missing, or a file is damaged or unsuitable.

    The message names it and the remedy.

    Attributes:
        obtainable: whether it can become available by a download, an installation, or a file put in place by hand.
        size: bytes to download, if known.
    """

    def __init__(self, message: str, obtainable: bool = False, size: int | None = None):
        super().__init__(message)
        self.obtainable, self.size = obtainable, size


def settled(precision: str) -> str:
    """`precision`, if a network can be loaded in it; raises ClassifierError for `auto`, which only a run resolves."""
    if precision == "auto":
        raise ClassifierError("precision auto is settled by `bench run`; to load a classifier alone, give fp32 or bf16")
    return precision


@dataclass(frozen=True)
class Classifier:
    """A source of one kind of classifier; the fields are its parameters.

    `load` returns a function of images in [0,1]; noisy images are not clipped unless a purifier bounds them. Any
    preprocessing (resizing, normalisation) belongs inside that function. If it calls its network more than once per
    image, it counts the rows in an attribute `rows`, which the harness reads. If it is a module with an attribute
    `network`, the harness compiles that network alone and changes its memory layout; otherwise it does so with the
    whole module.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    def weights(self) -> Path | None:
        """The weight file, whose content is part of a result's identity; None for a classifier without weights."""
        return None

    def files(self, download: bool = True) -> tuple[Path, ...]:
        """All files whose content is part of a result's identity: weights and configuration.

        Missing files are downloaded if possible and if `download` is true.

        Raises:
            ClassifierError: a file is missing and cannot be downloaded.
        """
        weights = self.weights()
        return () if weights is None else (weights,)

    def identity(self) -> str:
        """16 hex digits that change with the content of `files`.

        Raises:
            ClassifierError: a file is missing or damaged.
        """
        try:
            hashes = [fingerprint(file) for file in self.files(download=False)]
        except OSError as error:
            raise ClassifierError(f"{error.filename} cannot be read ({error.strerror})") from error
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:DIGITS]

    def preprocessing(self) -> dict[str, Any]:
        """The preprocessing of an image before the network, for the manifest of a run; empty if there is none."""
        return {}

    def load(self, device: str = "cpu") -> Logits:
        """The classifier on a device: images `[B,C,H,W]` -> logits `[B,K]`, rows independent."""
        raise NotImplementedError
