"""Cache of tuning results: one small JSON file for each set of facts, in the user's cache folder.

A result holds the date and the load of its measurement (`now`). One that was measured on a machine that was clearly
busier than now is ignored: speeds that were measured beside other programs have led to a slower choice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from platformdirs import user_cache_path
from pydantic import BaseModel, ConfigDict, Field

from bench.files import make_folder, read_json, validated, write_file

_BUSY = 0.5  # share of the cores that other programs used, above which a measurement is doubtful
_LESS = 0.25  # by so much it must be lower now
_MOST_ROWS = 1 << 20
_FOLDER = "PURIFYBENCH_SPEED"  # environment variable: the folder, instead of the user's cache


class _Way(BaseModel):
    """How a network computed in a measurement, and how fast."""

    model_config = ConfigDict(strict=True)
    precision: str
    channels_last: bool
    compile: str
    rows: Annotated[int, Field(ge=1, le=_MOST_ROWS)]
    beside: str
    gain: Annotated[float, Field(gt=0)]
    row_s: Annotated[float, Field(gt=0)]
    distances: dict[str, float | None]


class _Result(BaseModel):
    measured: dict[str, str | int | float] = {}
    rates: list[tuple[Annotated[int, Field(ge=1, le=_MOST_ROWS)], Annotated[float, Field(gt=0)]]] = []
    ways: dict[str, list[_Way]] = {}


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
        stored = read_json(place(facts))
        if stored.get("facts") != json.loads(json.dumps(facts)):
            return None
        result = stored["result"]
        made = validated(_Result, result).measured
    except (OSError, ValueError, LookupError, AttributeError):
        return None
    return None if _is_busier(made, now()) else result


def remember(facts: Mapping[str, Any], result: Mapping[str, Any]) -> None:
    """Store a result; a folder that cannot be written is ignored, and the next run measures again."""
    with suppress(OSError):
        path = make_folder(place(facts).parent) / place(facts).name
        write_file(path, json.dumps({"facts": facts, "result": result}, indent=1))
