"""The answer of a race in words: which purifier and sigma, why the race ended, and what more budget would buy. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.store.races import Dropped, Forecast, Race
from bench.summary import Summary
from bench.summary.format import listed, number_of, percent
from bench.summary.names import series_of
from bench.summary.statistics import wilson_interval

_ENDS = {
    "one": "one candidate is left",
    "alike": "the rest differ from the best by less than the margin",
    "all": "all images are drawn",
    "budget": "the budget is spent",
    "failed": "nothing is left",
}


@dataclass(frozen=True)
class Entry:
    """A candidate in the answer.

    Attributes:
        name, sigma: as in tables of the run.
        images, draws: of the race when it was seen last.
        accuracy: share of these images that is certified, an open one counting one half; None if none was drawn.
        low, high: 95 % interval (Wilson), from the images that are certified for certain to those that may be.
        nfe: network evaluations per purified image; NaN if nothing was drawn.
        within: it is shown to be less than the margin behind the best.
        dropped: why it left the race; None if it did not.
        rival: name of the candidate that beat it; empty without one.
    """

    name: str
    sigma: float
    images: int
    draws: int
    accuracy: float | None
    low: float
    high: float
    nfe: float
    within: bool
    dropped: Dropped | None
    rival: str


@dataclass(frozen=True)
class RaceAnswer:
    """What a race found.

    Attributes:
        radius, margin, error: of the race; shares.
        chosen: the candidate to use; None if there is none.
        ended: why the race ended: one, alike, all, budget or failed.
        verdict: the answer in sentences.
        draws, full: made by the race, and at most by a sweep of all candidates.
        images, population: drawn for those that remain, and of the preset.
        entries: all candidates, the chosen one first, then the others that remain, then the last dropped.
        forecast: what more budget would probably buy, if it was spent.
        notes: further remarks.
    """

    radius: float
    margin: float
    error: float
    chosen: Entry | None
    ended: str
    verdict: str
    draws: int
    full: int
    images: int
    population: int
    entries: tuple[Entry, ...]
    forecast: Forecast | None
    notes: tuple[str, ...]


def answer(race: Race, summary: Summary) -> RaceAnswer:
    """The answer of a race that has ended, with the names and costs of the run's summary."""
    table = summary.table.assign(series=series_of(summary.table)).set_index("cell")
    names = {key: f"{row['series']} at σ = {row['sigma']:g}" for key, row in table.iterrows()}
    gone = {dropped.cell: dropped for dropped in race.dropped}
    entries = {key: _entry(race, key, table.loc[key], gone.get(key), names) for key in race.candidates}

    def place(key: str) -> tuple[bool, float, float]:
        dropped = gone.get(key)
        return key != race.chosen, -(dropped.round if dropped else float("inf")), -(entries[key].accuracy or 0.0)

    last = race.rounds[-1]
    left = [names[key] for key in sorted(race.left, key=place) if key != race.chosen]
    notes = []
    if race.left_out:
        reasons = dict.fromkeys(race.left_out.values())
        notes.append(f"{number_of(len(race.left_out), 'cell')} did not race: {listed(reasons)}")
    if race.before:
        notes.append(f"the run held {race.before:,} draws of these cells before the race, which it used")
    return RaceAnswer(
        radius=race.radius,
        margin=race.margin,
        error=race.error,
        chosen=entries[race.chosen] if race.chosen else None,
        ended=race.ended or "budget",
        verdict=_verdict(race, names, left),
        draws=last.draws,
        full=race.full,
        images=last.images,
        population=len(race.order),
        entries=tuple(entries[key] for key in sorted(race.candidates, key=place)),
        forecast=race.forecast,
        notes=tuple(notes),
    )


def _entry(race: Race, key: str, row: Mapping[str, object], dropped: Dropped | None, names: Mapping[str, str]) -> Entry:
    seen = [r for r in race.rounds if key in r.standing]
    images, draws = (seen[-1].images, seen[-1].draws) if seen else (0, 0)
    low, high = seen[-1].standing[key] if seen else (0.0, 1.0)
    return Entry(
        name=str(row["series"]),
        sigma=float(str(row["sigma"])),
        images=images,
        draws=draws,
        accuracy=(low + high) / 2 if seen else None,
        low=wilson_interval(round(low * images), images)[0],
        high=wilson_interval(round(high * images), images)[1],
        nfe=float(str(row["nfe"])),
        within=key in race.within,
        dropped=dropped,
        rival=names.get(dropped.rival or "", "") if dropped else "",
    )


def _verdict(race: Race, names: Mapping[str, str], left: Sequence[str]) -> str:
    """Why the race ended, the choice, and what is claimed of it."""
    points, sure = f"{100 * race.margin:g} points", percent(1 - race.error, 0)
    if race.chosen is None:
        return (
            "No candidate is left: each one failed, or costs more than is allowed."
            if race.ended == "failed"
            else f"The budget ({race.budget}) was spent before every candidate had an image: loading, checks and draws "
            f"took {race.rounds[-1].seconds:.0f} s. The same command continues, without the checks."
        )
    chosen = names[race.chosen]
    others = f"{number_of(len(left), 'other')} ({listed(left)})"
    among = f"on the {number_of(len(race.order), 'image')} of the preset"
    if race.ended == "one":
        return (
            f"Use {chosen}: it is the last of {len(race.candidates)} candidates. With a probability of {sure} it is "
            f"the one that the full run would find best at radius {race.radius:g}, {among}."
        )
    if race.ended == "alike":
        return (
            f"Use {chosen}: of the candidates that remain it is the cheapest that is shown to be near the best. With a "
            f"probability of {sure} no candidate certifies more than it by {points} or more at radius {race.radius:g}, "
            f"{among}. {others} remain and may be better by less."
        )
    if race.ended == "all":
        return (
            f"Use {chosen}: all images are drawn, and no candidate certifies more at radius {race.radius:g}, {among}"
            f"{f', though {others} certify as many' if left else ''}."
        )
    near = f"It is shown to be less than {points} behind the best. " if race.chosen in race.within else ""
    return (
        f"The budget ({race.budget}) is spent. {chosen} is ahead at radius {race.radius:g}, and {others} remain. {near}"
        f"With a probability of {sure} the best {among} is one of them."
    )


def forecast_words(race: RaceAnswer) -> str:
    """What more budget would probably buy, as a sentence; empty if the race has ended by itself."""
    if (f := race.forecast) is None:
        return ""
    total = sum(f.endings.values())
    ends = "; ".join(f"{_ENDS[name]} in {count} of {total}" for name, count in sorted(f.endings.items()))
    return (
        f"More budget: about {f.draws[0]:,} more draws ({f.seconds / 60:.1f} minutes here; 90 % of resamples need at "
        f"most {f.draws[1]:,}) would probably end the race: {ends}."
    )
