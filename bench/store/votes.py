"""Votes per class as text in the database: a list, or with many classes an object of the classes that have votes.

`[0, 98, 2]` is a block of three classes. A block of a hundred draws reaches few of a thousand classes and is stored as
`{"classes":1000,"17":98,"402":2}`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import compress
from typing import Any

from bench.files import TooLarge

# Numbers of classes that may be stored as an object. The upper limit keeps a damaged text from filling the memory.
_MANY = range(33, 1_000_001)
_SIGNS, _ENORMOUS = set("[0123456789, ]"), re.compile(r"\d{16}")  # of a list of votes


def encode(votes: Sequence[int]) -> str:
    """Votes of all classes `[K]` as text for `decode`."""
    if (classes := len(votes)) in _MANY:
        voted = {k: votes[k] for k in compress(range(classes), votes)}
        text = json.dumps({"classes": classes, **voted}, separators=(",", ":"))
        if len(text) < 3 * classes:  # the shortest list has "0, " for every class
            return text
    return json.dumps(list(votes))


def decode(texts: Sequence[str], most: int = 1 << 32) -> list[list[int]]:
    """Votes of all classes `[K]` of each block, from their texts.

    One call of the JSON parser for many blocks is faster than one per block.

    Parameters:
        most: numbers of all blocks together, which a short text of many classes could otherwise fill the memory with.

    Raises:
        ValueError: a text is not one that `encode` writes.
    """
    left = most

    def every_class(pairs: list[tuple[str, Any]]) -> list[int]:
        nonlocal left
        classes = pairs[0][1] if pairs else 0
        left -= classes if type(classes) is int and classes in _MANY else 0  # others are damage
        if left < 0:
            raise TooLarge("its votes need more memory than this machine has; read it on a larger one")
        return _every_class(pairs)

    try:
        lists = [text for text in texts if text[0] != "{"]
        joined = ",".join(lists)
        if set(joined) - _SIGNS or joined.count("[") != len(lists) or _ENORMOUS.search(joined):
            raise ValueError("the votes of a block are damaged")
        blocks = json.loads(f"[{','.join(texts)}]", object_pairs_hook=every_class)
    except (TypeError, LookupError, RecursionError) as error:  # RecursionError: deeply nested brackets
        raise ValueError(str(error)) from error
    if len(blocks) != len(texts) or not set(map(type, blocks)) <= {list}:
        raise ValueError("the votes of a block are damaged")
    return blocks


def _every_class(pairs: list[tuple[str, Any]]) -> list[int]:
    """Votes of all classes `[K]` from the pairs of a JSON object: the number of classes, then votes by class."""
    (name, classes), *voted = pairs or [("", None)]
    if name != "classes" or type(classes) is not int or classes not in _MANY:
        raise ValueError(f"{classes!r} classes")
    votes, last = [0] * classes, -1
    for word, count in voted:
        k = int(word)
        if type(count) is not int or not 1 <= count < 10**15 or not last < k < classes:
            raise ValueError(f"{count!r} votes for class {k} of {classes}, after class {last}")
        votes[k], last = count, k
    return votes
