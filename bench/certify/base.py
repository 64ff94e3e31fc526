"""What a certifier is: a state machine over the counts of one image.

`missing` says which draws it still needs, `certify` reads the certificate off once it needs none. A rule that stops
early and the fixed-N rule of Cohen et al. differ in nothing else. Nothing here draws, and nothing is ever redone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.records import Certificate, Stage


@dataclass(frozen=True)
class Request:
    """Draws `first` to `first + draws - 1` of a stage."""

    stage: Stage
    first: int
    draws: int


@dataclass(frozen=True)
class Tally:
    """What has been counted of one image: votes by stage, as `{first draw: votes per class}`.

    Attributes:
        select, estimate: the stages.
        image, label: its index and its true class, for the few rules that need them.
    """

    select: Mapping[int, Sequence[int]] = field(default_factory=dict)
    estimate: Mapping[int, Sequence[int]] = field(default_factory=dict)
    image: int | None = None
    label: int | None = None

    def uninterrupted(self, stage: Stage, most: int) -> tuple[int, tuple[int, ...]]:
        """Draws counted without a gap from draw 0 and their votes, up to `most` draws.

        Raises:
            ValueError: a stored block crosses `most`, so that exactly `most` draws cannot be read from the counts.
        """
        blocks = getattr(self, stage)
        draws, joined = 0, []
        while draws < most and draws in blocks:
            block = blocks[draws]
            counted = sum(block)
            if not counted:
                raise ValueError(f"the stored block at draw {draws} of stage {stage} is empty; the results are damaged")
            draws += counted
            joined.append(block)
        if draws == most and len(joined) == 1:  # as nearly all are
            return draws, tuple(joined[0])
        if draws > most:
            raise ValueError(
                f"the stored counts join draws up to {draws} in one block, so they cannot be read at {most}; "
                f"ask for {draws}, or give another --out"
            )
        return draws, tuple(map(sum, zip(*joined, strict=True)))


def gaps(stored: Mapping[int, Sequence[int]], stage: Stage, start: int, end: int, block: int) -> list[Request]:
    """Requests for the draws from `start` to `end` that are not stored, `block` at a time counted from `start`."""
    requests, draw = [], start
    ahead = sorted(first for first in stored if first > start)
    while draw < end:
        if draw in stored:
            draw += max(1, sum(stored[draw]))
            continue
        stop = min(start + ((draw - start) // block + 1) * block, end)
        following = bisect_right(ahead, draw)
        stop = min([stop, *ahead[following : following + 1]])
        requests.append(Request(stage, draw, stop - draw))
        draw = stop
    return requests


class Certifier(Protocol):
    """A rule that turns the counts of one image into a certificate, for smoothing noise of one `sigma`."""

    @property
    def rule(self) -> str:
        """The rule and its constants, as a report names it."""
        ...

    @property
    def identity(self) -> str:
        """What of the rule is part of a cell's identity: "" where counts mean the same under any such rule.

        Counts that one stopping rule has ended must not be read, or continued, by another.
        """
        ...

    @property
    def largest(self) -> float:
        """The largest radius that the rule can prove."""
        ...

    def missing(self, tally: Tally) -> list[Request]:
        """Draws that can be made now and are still needed; empty when the image is decided."""
        ...

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate, or None while draws are missing."""
        ...
