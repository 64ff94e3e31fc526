"""Records as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any


def as_json(record: Any) -> str:
    """A record, or a container of them, as indented JSON that any reader takes: what is not a finite number is null."""
    return json.dumps(plain(record), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """Lists, dictionaries, words and numbers, all the way down."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
