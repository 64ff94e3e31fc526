"""The figures of the report: each as a number, and as the text that the page shows for it."""

from __future__ import annotations

import math
from typing import Any

UNKNOWN = "–"


def known(value: Any) -> float | None:
    """A finite number, or None."""
    return None if value is None or not math.isfinite(value) else float(value)


def short(value: float | None) -> str:
    """Three significant digits: `0.301`, `1`, `1,630`; a dash for an unknown value."""
    if (value := known(value)) is None:
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def interval_text(low: float | None, high: float | None, form: str = ".3f") -> str:
    """`[0.512, 0.634]`; empty if the interval is unknown."""
    return "" if low is None or high is None else f"[{low:{form}}, {high:{form}}]"


def figure(value: float | None, words: str | None = None) -> dict[str, Any]:
    """A record entry: the number, and its text (by default `short`)."""
    return {"value": value, "words": short(value) if words is None else words}
