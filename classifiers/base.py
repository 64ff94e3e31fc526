"""What the harness asks of a classifier. Nothing here imports torch at run time."""

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


# Metadata of a parameter that is left out of a cell's identity while it has its default, so that cells stay what they
# were before there was such a parameter: `field(default=..., kw_only=True, metadata=OPTION)`.
OPTION = {"option": True}


class ClassifierError(Exception):
    """A classifier cannot be had: a file or a library is missing, or a file is not what it should be.

    The message names it and the remedy.

    Attributes:
        obtainable: whether it can still be had: downloaded when a run asks for it, installed, or put in its place.
        size: bytes to download, where they are known.
    """

    def __init__(self, message: str, obtainable: bool = False, size: int | None = None):
        super().__init__(message)
        self.obtainable, self.size = obtainable, size


def settled(precision: str) -> str:
    """A precision that a network can be loaded in; raises ClassifierError for `auto`, which a run settles first."""
    if precision == "auto":
        raise ClassifierError("precision auto is settled by `bench run`; to load a classifier alone, give fp32 or bf16")
    return precision


@dataclass(frozen=True)
class Classifier:
    """A source of one kind of classifier; fields are its parameters.

    Any preprocessing (resizing, normalisation) belongs inside what `load` returns: the harness hands it images in
    [0,1], noisy ones unclipped where no purifier bounds them. Where that calls its network more than once per image,
    it counts the rows in an attribute `rows`; the harness reads it. Where it is a module that holds its network as
    `network`, the harness lays out and compiles that one alone, and otherwise the module, if a run asks for it.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    def weights(self) -> Path | None:
        """The file whose content is part of a result's identity; None where there are no weights."""
        return None

    def files(self, download: bool = True) -> tuple[Path, ...]:
        """All files whose content is part of a result's identity: the weights and what describes them.

        Those that are missing are downloaded, where they can be and `download` allows it.

        Raises:
            ClassifierError: they cannot be had.
        """
        weights = self.weights()
        return () if weights is None else (weights,)

    def identity(self) -> str:
        """16 hex digits that change with the content of `files`.

        Raises:
            ClassifierError: a file is missing, or is damaged and says so.
        """
        try:
            hashes = [fingerprint(file) for file in self.files(download=False)]
        except OSError as error:
            raise ClassifierError(f"{error.filename} cannot be read ({error.strerror})") from error
        return hashlib.sha256("\n".join(hashes).encode()).hexdigest()[:DIGITS]

    def preprocessing(self) -> dict[str, Any]:
        """What is done to an image before the network sees it, as a run's manifest records it; empty for nothing."""
        return {}

    def load(self, device: str = "cpu") -> Logits:
        """The classifier, ready to be called: images `[B,C,H,W]` -> logits `[B,K]`, rows independent."""
        raise NotImplementedError
