"""The record of a race, in the manifest of its run: what was compared, in which rounds, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

RACE = "race"  # in the manifest
Ending = Literal["one", "alike", "all", "budget", "failed"]
_STRICT = ConfigDict(extra="forbid")
_Radius = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, config=_STRICT)
class RaceRound:
    """The state after one round.

    Attributes:
        images, level: so many images, in the order of the race, are drawn up to the ceiling of this level.
        draws, seconds: spent so far by the race.
        standing: cell -> shares of these images that are certified for certain, and possibly.
    """

    images: int
    level: int
    draws: int
    seconds: float
    standing: dict[str, tuple[float, float]]


@dataclass(frozen=True, config=_STRICT)
class Dropped:
    """A candidate that left the race, and the evidence.

    Attributes:
        cell: its key.
        round: index of the round.
        rival: key of the cell that certifies more images; None if the candidate left for another reason.
        won, lost, open: images that only the rival certifies, that only the candidate certifies, and that were open.
        p: of the comparison, corrected for all comparisons of one candidate.
        reason: if there is no rival: an error, or a cost beyond the budget.
    """

    cell: str
    round: int
    rival: str | None = None
    won: int = 0
    lost: int = 0
    open: int = 0
    p: float = 1.0
    reason: str = ""


@dataclass(frozen=True, config=_STRICT)
class Forecast:
    """The draws that a longer race would probably take, from resamples of the images that were seen.

    Attributes:
        draws: further draws, median and 90th percentile of the resamples.
        seconds: for the median, at the speed of this race.
        endings: how the resamples ended, and how many of them.
    """

    draws: tuple[int, int]
    seconds: float
    endings: dict[Ending, int]


@dataclass(frozen=True, config=_STRICT)
class Race:
    """A race for the highest certified accuracy at one radius, over the images of a preset.

    Attributes:
        radius: L2, in [0,1] pixel units.
        margin: difference of accuracy that does not matter.
        error: probability that the best candidate is dropped, or that the chosen one is worse by more than the margin.
        budget: in words.
        order: the images of the preset in the order in which they are drawn.
        before: draws that the run held before the race, which need not be made again.
        full: most draws of a sweep of all candidates over all images.
        candidates: keys of the cells that race.
        left_out: keys of the cells that do not, with the reason.
        ended: one (candidate is left), alike (the rest differ by less than the margin), all (images are drawn, and the
            rest certify equally many), budget (is spent), failed (nothing is left); None while the race goes on.
        chosen: key of the answer.
        within: keys of the remaining cells that are shown to be within the margin of the best.
    """

    radius: _Radius
    margin: float
    error: float
    budget: str
    order: list[int]
    before: int
    full: int
    candidates: list[str]
    left_out: dict[str, str]
    rounds: list[RaceRound]
    dropped: list[Dropped]
    ended: Ending | None = None
    chosen: str | None = None
    within: tuple[str, ...] = ()
    forecast: Forecast | None = None

    @property
    def left(self) -> list[str]:
        """Keys of the candidates that were not dropped."""
        gone = {dropped.cell for dropped in self.dropped}
        return [key for key in self.candidates if key not in gone]

    def record(self) -> dict[str, Any]:
        """The race as `race_of` reads it."""
        return asdict(self)


def race_of(manifest: Mapping[str, Any]) -> Race | None:
    """The race of a run; None if there was none, or its record is damaged, so that counts can still be read."""
    if manifest.get(RACE) is None:
        return None
    try:
        return TypeAdapter(Race).validate_python(manifest[RACE])
    except ValidationError:
        return None
