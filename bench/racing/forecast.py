"""What a larger budget would buy: the race goes on with images that are resampled from those it has seen."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from bench.racing.allocation import run_race
from bench.racing.replay import Stored, Traces
from bench.store.races import Forecast, Race

_REPEATS = 20
_OPEN = 4  # times the draws so far: those of an open image in the end, as a guess


def forecast(
    race: Race, low: NDArray[np.float64], high: NDArray[np.float64], made: NDArray[np.int64], seed: int = 0
) -> Forecast | None:
    """The further draws of a race whose budget ended, and its probable end; None without an image in common.

    An estimate: it takes the images that were seen for those that follow. An open image becomes certified with a
    probability of one half.

    Parameters:
        low, high, made: `[K, images]`, bounds of certified accuracy, and draws, of the race's candidates and images.
    """
    rows, seen = [race.candidates.index(key) for key in race.left], race.rounds[-1].images
    if not seen or len(rows) < 2:
        return None
    rng, rivals = np.random.default_rng(seed), len(race.candidates) - 1
    terms = replace(
        race, candidates=race.left, error=race.error * (len(rows) - 1) / rivals, rounds=[], dropped=[], ended=None
    )
    further, endings = [], []
    for _ in range(_REPEATS):
        columns = np.concatenate([np.arange(seen), rng.integers(seen, size=len(race.order) - seen)])
        at = np.ix_(np.array(rows), columns)
        open_images = low[at] < high[at]
        certified = np.where(open_images, rng.integers(2, size=open_images.shape), low[at])
        draws = made[at] * np.where(open_images, _OPEN, 1)
        traces = Traces(certified[:, None], certified[:, None], draws[:, None])
        longer = run_race(terms, Stored(traces, np.arange(len(columns))), [1.0] * len(rows))
        further.append(max(0, longer.rounds[-1].draws - int(made[rows, :seen].sum())))
        endings.append(longer.ended)
    middle, most = (int(q) for q in np.quantile(further, (0.5, 0.9)))
    last = race.rounds[-1]
    seconds = middle * last.seconds / last.draws if last.draws else 0.0
    return Forecast((middle, most), seconds, dict(Counter(ending for ending in endings if ending)))
