"""What the harness asks of a classifier. Nothing here imports torch at run time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor

Logits = Callable[["Tensor"], "Tensor"]  # images [B,C,H,W] in [0,1] -> logits [B,K]


@dataclass(frozen=True)
class Classifier:
    """A source of one kind of classifier; fields are its parameters.

    Any preprocessing (resizing, normalisation) belongs inside what `load` returns: the harness hands it images in
    [0,1], noisy ones unclipped where no purifier bounds them.
    """

    name: ClassVar[str]
    source: ClassVar[str]

    def weights(self) -> Path | None:
        """The file whose content is part of a result's identity; None where there are no weights."""
        return None

    def load(self, device: str = "cpu") -> Logits:
        """The classifier, ready to be called: images `[B,C,H,W]` -> logits `[B,K]`, rows independent."""
        raise NotImplementedError
