"""Formats of numbers and lists, the same in every table, picture and message."""

from __future__ import annotations

from collections.abc import Iterable


def percent(share: float, digits: int = 1) -> str:
    """A share in percent: `59.6 %`."""
    return f"{100 * share:.{digits}f} %"


def percent_interval(low: float, high: float) -> str:
    """An interval of a share in percent: `[54.6, 63.2]`."""
    return f"[{100 * low:.1f}, {100 * high:.1f}]"


def change_text(change: float, low: float, high: float, form: str = "") -> str:
    """A difference with its interval; without a format in percent points: `-2.4 [-4.1, -0.8]`."""
    scale, form = (1, form) if form else (100, "+.1f")
    return f"{scale * change:{form}} [{scale * low:{form}}, {scale * high:{form}}]"


def p_text(p: float) -> str:
    """A p-value: three decimals below 0.1, two above, `<0.001` below that."""
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def number_of(number: int, noun: str) -> str:
    """`1 image`, `2 images`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def images_text(counts: Iterable[int]) -> str:
    """`500 images`, or `20 to 500 images` if the counts differ."""
    counts = sorted(set(counts))
    return f"{counts[0]} to {counts[-1]} images" if len(counts) > 1 else number_of(sum(counts), "image")


def listed(words: Iterable[str], most: int = 4) -> str:
    """`a, b and c`; of more than `most`, the first ones and the number of the others."""
    words = list(words)
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
