"""Local smoothing as an option of every classifier, after any purifier (DiffSmooth, Zhang et al. 2023).

The options are added to a classifier's class only if they are used: its own file, which is part of the identity of its
cells, does not name them.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any

from classifiers.base import OPTION, Classifier, Logits

LOCAL = ("local_votes", "local_noise")


@dataclass(frozen=True)
class LocallySmoothed(Classifier):
    """Base class that adds local smoothing to the classifier after it in the order of bases.

    Parameters:
        local_votes, local_noise: mean confidence over this number of copies of each image with Gaussian noise of this
            standard deviation ([0,1] pixel units), the same noise for all images. Every copy counts as one row.
    """

    local_votes: int = field(default=1, kw_only=True, metadata=OPTION)
    local_noise: float = field(default=0.0, kw_only=True, metadata=OPTION)

    def __post_init__(self) -> None:
        getattr(super(), "__post_init__", lambda: None)()
        if self.local_votes < 1:
            raise ValueError(f"local_votes must be at least 1, got {self.local_votes}")
        if not 0 <= self.local_noise < math.inf:
            raise ValueError(f"local_noise must be at least 0, got {self.local_noise}")
        if self.local_votes > 1 and not self.local_noise:
            raise ValueError(f"local_votes = {self.local_votes} copies would be identical; set local_noise as well")

    def load(self, device: str = "cpu") -> Logits:
        from classifiers.nets.local_votes import LocalVotes

        loaded = super().load(device)
        return LocalVotes(loaded, self.local_votes, self.local_noise) if self.local_noise else loaded


def is_plain(classifier: Any) -> bool:
    """Whether a classifier with the options `LOCAL` uses none of them."""
    return classifier.local_votes == 1 and not classifier.local_noise


def with_local_votes(plugin: type[Classifier]) -> type[Classifier]:
    """The classifier with the options `LOCAL`; unchanged if it has options of these names."""
    if {parameter.name for parameter in dataclasses.fields(plugin)} & set(LOCAL):
        return plugin
    facts: dict[str, Any] = {"__module__": plugin.__module__, "__doc__": plugin.__doc__, "__annotations__": {}}
    return dataclass(frozen=True)(type(plugin.__name__, (LocallySmoothed, plugin), facts))
