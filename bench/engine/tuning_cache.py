"""Cache of tuning results: one small JSON file for each set of facts, in the user's cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
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
        return stored["result"] if stored["facts"] == json.loads(json.dumps(facts)) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def remember(facts: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Store a result; a folder that cannot be written is ignored, and the next run measures again."""
    path = _place(facts)
    draft = path.with_suffix(f".{os.getpid()}.part")
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            draft.write_text(json.dumps({"facts": facts, "result": result}, indent=1))
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
