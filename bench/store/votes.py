"""Votes per class as text, as the database holds them: a list, or where there are many classes those with votes alone.

`[0, 98, 2]` is a block of three classes. Of a thousand classes a block of a hundred draws reaches a few, so it says
`{"classes":1000,"17":98,"402":2}`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import compress
from typing import Any

# Fewer classes stay the list that they always were; and a damaged text must not ask for more than memory holds.
MANY = range(33, 1_000_001)


def encode(votes: Sequence[int]) -> str:
    """Votes of all classes `[K]` as text; what `decode` reads."""
    if (classes := len(votes)) in MANY:
        voted = {k: votes[k] for k in compress(range(classes), votes)}
        text = json.dumps({"classes": classes, **voted}, separators=(",", ":"))
        if len(text) < 3 * classes:  # a list is never shorter: "0, " for every class
            return text
    return json.dumps(list(votes))


def decode(text: str) -> list[int]:
    """Votes of all classes `[K]` from their text; raises ValueError where it is not one that `encode` writes."""
    return decode_all([text])[0]


def decode_all(texts: Sequence[str]) -> list[list[int]]:
    """The same of many blocks at once, which takes less time. Numbers in a list are taken as they are."""
    try:
        blocks = json.loads(f"[{','.join(texts)}]", object_pairs_hook=every_class)
    except (TypeError, RecursionError) as error:  # no text, or brackets without end
        raise ValueError(str(error)) from error
    if len(blocks) != len(texts) or not set(map(type, blocks)) <= {list}:
        raise ValueError("not the votes of one block each")
    return blocks


def every_class(pairs: list[tuple[str, Any]]) -> list[int]:
    """Votes of all classes `[K]` from the names and values of a JSON object: how many classes, then votes by class."""
    (name, classes), *voted = pairs or [("", None)]
    if name != "classes" or type(classes) is not int or classes not in MANY:
        raise ValueError(f"{classes!r} classes")
    votes, last = [0] * classes, -1
    for word, count in voted:
        k = int(word)
        if type(count) is not int or count < 1 or not last < k < classes:
            raise ValueError(f"{count!r} votes for class {k} of {classes}, after class {last}")
        votes[k], last = count, k
    return votes
