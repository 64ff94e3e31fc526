"""Checkpoints of a training: written atomically every few minutes, and read without executing code."""

from __future__ import annotations

import json
import math
import pickle
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from bench.errors import PurifyBenchError
from bench.files import make_folder, open_file, parse_json, writing


class CheckpointError(PurifyBenchError, ValueError):
    """A checkpoint is damaged or of another recipe; the message names the file and the remedy."""


@dataclass
class Checkpoint:
    """The checkpoint file of one training, and its time limit.

    Attributes:
        path: the file.
        recipe: settings (plain values) that must be equal for the training to resume.
        minutes: time limit, after which the training stops at its next step; None: none.
        on_save: called with the state at every save.
        every: seconds between two saves.
        stop: the training pauses at its next step once this returns True; None: never.
    """

    path: Path
    recipe: Mapping[str, Any]
    minutes: float | None = None
    on_save: Callable[[Mapping[str, Any]], None] | None = None
    every: float = 120.0
    stop: Callable[[], bool] | None = None
    _started: float = field(default_factory=lambda: time.monotonic())
    _written: float = field(default_factory=lambda: time.monotonic())

    def load(self, device: str | torch.device = "cpu") -> dict[str, Any] | None:
        """The saved state, or None if there is no file.

        Raises:
            CheckpointError: the file is damaged, or belongs to another recipe.
        """
        if not self.path.is_file():
            return None
        remedy = "delete it to begin again (--fresh does), or give another --out"
        try:
            with open_file(self.path) as file:
                content = torch.load(file, map_location=device, weights_only=True)
            before, state = parse_json(content["recipe"]), content["state"]
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError, pickle.UnpicklingError) as error:
            problem = str(error).partition("\n")[0] if isinstance(error, OSError) else type(error).__name__
            raise CheckpointError(f"{self.path} cannot be read as a checkpoint ({problem}); {remedy}") from error
        now = json.loads(json.dumps(self.recipe))
        if before != now:
            keys = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
            changed = ", ".join(f"{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in keys)
            if keys == ["autocast"]:  # whose default depends on the device
                remedy = f"`{'--bf16' if before['autocast'] else '--no-bf16'}` continues it; else {remedy}"
            raise CheckpointError(f"{self.path} belongs to another recipe: {changed}; {remedy}")
        return state

    def due(self) -> bool:
        """Whether the last save is `every` seconds ago."""
        return time.monotonic() - self._written >= self.every

    def paused(self) -> bool:
        """Whether the training shall save its state and end before its next step."""
        return bool(self.stop and self.stop())

    def left(self) -> float:
        """Seconds until the time limit; infinite without a limit, 0 for a training that pauses."""
        if self.paused():
            return 0.0
        return math.inf if self.minutes is None else 60 * self.minutes - (time.monotonic() - self._started)

    def spent(self) -> float:
        """Share of the time limit that has passed, 0 to 1; 0 without a limit."""
        if not self.minutes:
            return 0.0 if self.minutes is None else 1.0
        return min(1.0, (time.monotonic() - self._started) / (60 * self.minutes))

    def save(self, state: Mapping[str, Any]) -> None:
        """Write the state atomically: a crash leaves the previous file intact."""
        make_folder(self.path.parent)
        with writing(self.path) as file:
            torch.save({"recipe": json.dumps(self.recipe), "state": dict(state)}, file)
        if self.on_save:
            self.on_save(state)
        self._written = time.monotonic()
