"""Unknown names answer with the nearest one and the list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(kind: str, name: str, known: Iterable[str]) -> str:
    """A message for an unknown `name`: what was meant, perhaps, and what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"unknown {kind} {name!r}.{hint} Known: {', '.join(names)}"
