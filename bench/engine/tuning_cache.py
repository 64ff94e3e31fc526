"""Cache of tuning results: one small JSON file for each set of facts, in the user's cache folder.

A result holds the date and the load of its measurement (`now`). One that was measured on a machine that was clearly
busier than now is ignored: speeds that were measured beside other programs have led to a slower choice.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

_BUSY = 0.5  # share of the cores that other programs used, above which a measurement is doubtful
_LESS = 0.25  # by so much it must be lower now
_FOLDER = "PURIFYBENCH_SPEED"  # environment variable: the folder, instead of the user's cache


def place(facts: Mapping[str, Any]) -> Path:
    """The file of a result, named after everything that it depends on."""
    folder = os.environ.get(_FOLDER) or user_cache_path("purifybench") / "speed"
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(folder) / f"{digest}.json"


def now() -> dict[str, Any]:
    """Date, load average of the last minute, and cores: the circumstances of a measurement."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return {"date": datetime.now(UTC).date().isoformat(), "load": round(load, 2), "cores": os.cpu_count() or 1}


def _is_busier(then: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Whether a measurement was made beside other programs, and the machine is clearly less busy now."""
    before, after = (float(made.get("load", 0.0)) / float(made.get("cores", 1)) for made in (then, here))
    return before > _BUSY and after < before - _LESS


def recall(facts: Mapping[str, Any]) -> dict[str, Any] | None:
    """The stored result; None if there is none, or if it is damaged, of other facts, or of a busier machine."""
    try:
        stored = json.loads(place(facts).read_text())
    except (OSError, ValueError):
        return None
    intact = isinstance(stored, dict) and stored.get("facts") == json.loads(json.dumps(facts))
    if not intact or not isinstance(stored.get("result"), dict):
        return None
    made = stored["result"].get("measured", {})
    return None if isinstance(made, dict) and _is_busier(made, now()) else stored["result"]


def remember(facts: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Store a result; a folder that cannot be written is ignored, and the next run measures again."""
    path, draft = place(facts), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            draft = file.name
            json.dump({"facts": facts, "result": result}, file, indent=1)
        os.replace(draft, path)
    except OSError:
        if draft is not None:
            Path(draft).unlink(missing_ok=True)
