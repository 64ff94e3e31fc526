"""What was measured of a network on a device, kept for later runs: one small JSON file each, in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

FOLDER = "PURIFYBENCH_SPEED"  # environment variable: the folder, instead of the user's cache


def place(facts: Mapping[str, Any]) -> Path:
    """The file of a measurement, named after everything that it depends on."""
    folder = os.environ.get(FOLDER) or user_cache_path("purifybench") / "speed"
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{digest}.json"


def recall(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was measured; None where nothing was, or the file is damaged or of other facts."""
    try:
        kept = json.loads(place(facts).read_text())
    except (OSError, ValueError):
        return None
    whole = isinstance(kept, dict) and kept.get("facts") == json.loads(json.dumps(facts))
    return kept["found"] if whole and isinstance(kept.get("found"), dict) else None


def remember(facts: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Keep what was measured; where the folder cannot be written, it is measured again."""
    path, made = place(facts), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            made = file.name
            json.dump({"facts": facts, "found": found}, file, indent=1)
        os.replace(made, path)
    except OSError:
        if made is not None:
            Path(made).unlink(missing_ok=True)
