"""Cache of tuning results: one small JSON file for each set of facts, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

_FOLDER = "PURIFYBENCH_SPEED"  # environment variable: the folder, instead of the user's cache


def _place(facts: Mapping[str, Any]) -> Path:
    """The file of a result, named after everything that it depends on."""
    folder = os.environ.get(_FOLDER) or user_cache_path("purifybench") / "speed"
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{digest}.json"


def recall(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored result; None if there is none, or if its file is damaged or has other facts."""
    try:
        stored = json.loads(_place(facts).read_text())
    except (OSError, ValueError):
        return None
    intact = isinstance(stored, dict) and stored.get("facts") == json.loads(json.dumps(facts))
    return stored["result"] if intact and isinstance(stored.get("result"), dict) else None


def remember(facts: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Store a result; a folder that cannot be written is ignored, and the next run measures again."""
    path, draft = _place(facts), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            draft = file.name
            json.dump({"facts": facts, "result": result}, file, indent=1)
        os.replace(draft, path)
    except OSError:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
