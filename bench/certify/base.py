"""The contract of a certifier: a state machine over the counts of one image.

`missing` lists the draws that are still needed; `certify` returns the certificate when none is missing. Sequential
rules and the fixed-N rule of Cohen et al. share this contract. A certifier only reads counts; it never draws.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.errors import InputError
from bench.records import Certificate, Stage

MOST_DRAWS, _MOST_BLOCKS = 10**9, 100_000  # of an image


@dataclass(frozen=True)
class Request:
    """Draws `first` to `first + draws - 1` of a stage."""

    stage: Stage
    first: int
    draws: int


@dataclass(frozen=True)
class Tally:
    """The counts of one image so far: for each stage, `{first draw: votes per class}` of the stored blocks.

    Attributes:
        select, estimate: the blocks of each stage.
        image, label: index and true class of the image, for the rules that need them.
    """

    select: Mapping[int, Sequence[int]] = field(default_factory=dict)
    estimate: Mapping[int, Sequence[int]] = field(default_factory=dict)
    image: int | None = None
    label: int | None = None

    def uninterrupted(self, stage: Stage, most: int) -> tuple[int, tuple[int, ...]]:
        """The number of draws counted without a gap from draw 0, at most `most`, and their votes per class.

        Raises:
            ValueError: a stored block crosses `most`, so exactly `most` draws cannot be read, or a block is empty.
        """
        blocks = getattr(self, stage)
        draws, joined = 0, []
        while draws < most and draws in blocks:
            block = blocks[draws]
            counted = sum(block)
            if not counted:
                raise InputError(f"the stored block at draw {draws} of stage {stage} is empty; the results are damaged")
            draws += counted
            joined.append(block)
        if draws == most and len(joined) == 1:  # the usual case, without a sum
            return draws, tuple(joined[0])
        if draws > most:
            raise InputError(
                f"the stored counts join draws up to {draws} in one block, so they cannot be read at {most}; "
                f"ask for {draws}, or give another --out"
            )
        return draws, tuple(map(sum, zip(*joined, strict=True)))


def refuse_draws(block: int, **draws: int | None) -> None:
    """Raise InputError for more draws of an image, or more blocks, than a run can store or keep apart.

    Draws of selection are numbered from 2^40 on, so those of estimation must stay far below.
    """
    for name, number in draws.items():
        if number is not None and number > min(MOST_DRAWS, _MOST_BLOCKS * block):
            raise InputError(
                f"{name} = {number:,}: an image has at most {MOST_DRAWS:,} draws in {_MOST_BLOCKS:,} blocks of "
                f"{block:,}; give a smaller {name}, or a larger block"
            )


def gaps(stored: Mapping[int, Sequence[int]], stage: Stage, start: int, end: int, block: int) -> list[Request]:
    """Requests for the draws from `start` up to `end` that are not stored, in blocks of `block` aligned at `start`."""
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


class Requesting(Protocol):
    """What a sweep asks of a certifier."""

    def missing(self, tally: Tally) -> list[Request]:
        """Draws that are still needed and can be made now; empty when the image is decided."""


class Certifier(Requesting, Protocol):
    """A rule that turns the counts of one image into a certificate, for smoothing noise of one `sigma`."""

    @property
    def rule(self) -> str:
        """The rule and its constants, for reports."""

    @property
    def identity(self) -> str:
        """The rule's part of a cell's identity: a hash of a version and constants; "" if the draws ignore the counts.

        Counts made under one stopping rule must not be read or continued under another.
        """

    @property
    def largest(self) -> float:
        """The largest radius that the rule can prove."""

    def certify(self, tally: Tally) -> Certificate | None:
        """The certificate, or None while draws are missing."""

    def reaches(self, tally: Tally, radius: float) -> bool | None:
        """Whether a correct certificate has at least `radius` once no draw is missing; None while draws decide that.

        Known early if the selected class is not `tally.label`, if the radius is proved, or if no further votes can
        prove it.
        """
