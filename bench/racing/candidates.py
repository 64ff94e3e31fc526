"""The cells that race: those whose rule can certify the radius, within the budget of costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bench.certify import Certifier
from bench.errors import InputError
from bench.records import Cell
from bench.store import Run
from bench.store.races import Race
from bench.summary import summarise
from bench.summary.headline import COSTS

ERROR = 0.05
MARGIN = 0.02


@dataclass(frozen=True)
class Limits:
    """The highest costs of a candidate; None: any.

    Attributes:
        nfe, ms_purify: network evaluations and milliseconds per purified image.
        ms_joint, gflops: milliseconds and 10^9 floating-point operations per vote, of purifier and classifier.
    """

    nfe: float | None = None
    ms_purify: float | None = None
    ms_joint: float | None = None
    gflops: float | None = None

    def __post_init__(self) -> None:
        for column, most in self.given.items():
            if not 0 <= most < math.inf:
                raise InputError(f"the limit of {COSTS[column].unit} must be a number of at least 0, got {most:g}")

    @property
    def given(self) -> dict[str, float]:
        """Column of a summary -> limit, of those that are set."""
        return {column: most for column, most in vars(self).items() if most is not None}

    def exceeded(self, row: Mapping[str, float]) -> str:
        """Why a row of a summary is beyond the limits; empty if it is not."""
        for column, most in self.given.items():
            unit, cost = COSTS[column].unit, row[column]
            if math.isnan(cost):
                return f"its {unit} are not known"
            if cost > most * (1 + 1e-9):
                return f"{cost:.3g} {unit}, and {most:g} are allowed"
        return ""


def too_costly(run: Run, limits: Limits) -> dict[str, str]:
    """Cell -> why it is beyond the limits, from the measured costs of a run; cells without counts are left out."""
    if not limits.given:
        return {}
    rows = summarise([run]).table
    rows = rows[rows["counted_draws"] > 0].set_index("cell")
    return {key: why for key, row in rows.iterrows() if (why := limits.exceeded(row))}


def new_race(
    cells: Sequence[Cell],
    rules: Mapping[str, Certifier],
    images: Sequence[int],
    radius: float,
    margin: float,
    seed: int,
    left_out: Mapping[str, str],
    budget: str = "none",
) -> Race:
    """A race before its first round, with the images in a random order.

    Parameters:
        rules: of the cells, by key.
        images: of the preset.
        margin: difference of accuracy that does not matter, as a share.
        seed: of the order. It has its own stream, apart from that of the noise.
        left_out: cells that must not race, with the reason.

    Raises:
        ValueError: the radius or the margin is out of range, or no candidate is left.
    """
    if not 0 <= radius < math.inf:
        raise InputError(f"the radius must be a number of at least 0, got {radius:g}")
    if not 0 <= margin < 1:
        raise InputError(f"the margin must be at least 0 and below 100 percent points, got {100 * margin:g}")
    short = {cell.key: f"their draws certify at most radius {rules[cell.key].largest:.3g}" for cell in cells}
    out = {key: why for key, why in short.items() if rules[key].largest < radius}
    if len(out) == len(cells):
        largest = max(rules[key].largest for key in out)
        raise InputError(
            f"nothing reaches radius {radius:g}: the largest that these draws certify is {largest:.3g}. Give more "
            "draws (--n, or --n-max and --radii of a sequential rule) or a larger sigma (--sigmas)"
        )
    out |= left_out
    racing = [cell.key for cell in cells if cell.key not in out]
    if not racing:
        raise InputError(f"no candidate is within the budget: {next(iter(left_out.values()))}")
    rng = np.random.default_rng([0x72616365, seed])  # "race"
    order = [int(i) for i in rng.permutation(np.asarray(images))]
    full = sum(len(order) * most_draws(rules[key]) for key in racing)
    return Race(radius, margin, ERROR, budget, order, 0, full, racing, out, [], [])


def most_draws(rule: Certifier) -> int:
    """Most draws of an image under a rule, with those of the selection."""
    from bench.certify import FixedN, Sequential

    assert isinstance(rule, FixedN | Sequential), "there are two kinds of rules"
    return rule.n0 + (rule.n if isinstance(rule, FixedN) else int(rule.boundaries.looks[-1]))
