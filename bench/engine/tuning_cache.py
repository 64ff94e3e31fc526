"""Cache of tuning results: one small JSON file for each set of facts, in the user's cache folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from bench.files import make_folder, read_json, write_file

_FOLDER = "PURIFYBENCH_SPEED"  # environment variable: the folder, instead of the user's cache


def _place(facts: Mapping[str, Any]) -> Path:
    """The file of a result, named after everything that it depends on."""
    folder = os.environ.get(_FOLDER) or user_cache_path("purifybench") / "speed"
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{digest}.json"


def recall(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored result; None if there is none, or if its file is damaged or has other facts."""
    try:
        stored = read_json(_place(facts))
    except (OSError, ValueError):
        return None
    intact = stored.get("facts") == json.loads(json.dumps(facts))
    return stored["result"] if intact and isinstance(stored.get("result"), dict) else None


def remember(facts: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Store a result; a folder that cannot be written is ignored, and the next run measures again."""
    path = _place(facts)
    with suppress(OSError):
        make_folder(path.parent)
        write_file(path, json.dumps({"facts": facts, "result": result}, indent=1))
