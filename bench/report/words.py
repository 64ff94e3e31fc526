"""How figures are written, everywhere on the page alike."""

from __future__ import annotations

import math

UNKNOWN = "–"


def percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def interval(low: float, high: float) -> str:
    """An interval of a share, in percent: `[54.6, 63.2]`."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def short(value: float | None) -> str:
    """Three digits: `0.301`, `1`, `1,630`."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
