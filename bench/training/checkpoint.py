"""Where a training stands: written every few minutes, whole or not at all, and read without running anything."""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.errors import PurifyBenchError


class CheckpointError(PurifyBenchError, ValueError):
    """A checkpoint is damaged or of another recipe; the message names the file and the remedy."""


@dataclass
class Checkpoint:
    """The place of one training on disk, and how long it may go on.

    Attributes:
        path: the file.
        recipe: what must be the same for the training to go on (plain values).
        minutes: after this long the training stops at its next step; None: when its recipe is done.
        also: called with the state at every writing.
        every: seconds between two writings.
    """

    path: Path
    recipe: Mapping[str, Any]
    minutes: float | None = None
    also: Callable[[Mapping[str, Any]], None] | None = None
    every: float = 120.0
    _started: float = field(default_factory=time.monotonic)
    _written: float = field(default_factory=time.monotonic)

    def load(self, device: str | torch.device = "cpu") -> dict[str, Any] | None:
        """The state that was saved, or None where there is none.

        Raises:
            CheckpointError: damaged, or of another recipe.
        """
        if not self.path.is_file():
            return None
        remedy = "delete it to begin again (--fresh does), or give another --out"
        try:
            content = torch.load(self.path, map_location=device, weights_only=True)
            recipe, state = content["recipe"], content["state"]
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            problem = str(error).partition("\n")[0] if isinstance(error, OSError) else type(error).__name__
            raise CheckpointError(f"{self.path} is no checkpoint that can be read ({problem}); {remedy}") from error
        before, now = json.loads(recipe), json.loads(json.dumps(self.recipe))
        if before != now:
            changed = ", ".join(
                f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
                for key in sorted(before.keys() | now.keys())
                if before.get(key) != now.get(key)
            )
            raise CheckpointError(f"{self.path} belongs to another recipe: {changed}; {remedy}")
        return state

    def due(self) -> bool:
        return time.monotonic() - self._written >= self.every

    def left(self) -> float:
        """Seconds left of the time that this training was given; infinite where it was given no end."""
        return math.inf if self.minutes is None else 60 * self.minutes - (time.monotonic() - self._started)

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state; a crash leaves the one before."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".part")
        torch.save({"recipe": json.dumps(self.recipe), "state": dict(state)}, draft)
        os.replace(draft, self.path)
        if self.also:
            self.also(state)
        self._written = time.monotonic()
