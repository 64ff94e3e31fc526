"""Race the purifiers of a preset, and replay races on stored counts, for the public API and the command line."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api.runs import RUNS, Run, run_into

if TYPE_CHECKING:
    from rich.table import Table

    from bench.racing import Replay
    from bench.racing.answer import Entry, RaceAnswer
    from bench.store.races import Race
    from bench.sweep import Preset

MARGIN = 2.0  # percent points
_READING = (
    "→: the choice; ≈: shown to be less than the margin behind the best; certified: share of the images that were "
    "drawn until the end, or until it was dropped, with Wilson's 95 % interval; only rival, only it: images that only "
    "one of the two certifies; p: test by betting on these differences, valid at every look, corrected for all "
    "comparisons"
)


@dataclass(frozen=True)
class Raced:
    """A race: its answer, and its run. It prints as `bench race` does.

    Attributes:
        run: with the draws of the race; `bench run` completes it in its folder.
        answer: the choice, the verdict, every candidate with the evidence against it, a forecast.
    """

    run: Run
    answer: RaceAnswer

    def __str__(self) -> str:
        from bench.api.answers import as_text

        return as_text(race_parts(self.answer))


def race(
    preset: str | Path,
    radius: float,
    out: str | Path | None = None,
    *,
    minutes: float | None = None,
    gpu_hours: float | None = None,
    draws: int | None = None,
    max_nfe: float | None = None,
    max_ms: float | None = None,
    max_joint_ms: float | None = None,
    max_gflops: float | None = None,
    margin: float = MARGIN,
    **fields: Any,
) -> Raced:
    """Find the purifier and sigma with the highest certified accuracy at a radius, within a budget.

    All candidates start on few images. Those that are shown to certify fewer images than another one are dropped, and
    the budget moves to the others; see docs/race.md for the test and its guarantee. The folder is a run with a part of
    the draws of `pb.run`, which completes it.

    Parameters:
        preset: a name from `presets()`, or the path of a TOML file.
        radius: L2, in [0,1] pixel units.
        out: results folder; results/runs/NAME-race by default. A race in it is continued.
        minutes, gpu_hours, draws: the budget, at most one of them; None of them: until the race is decided.
        max_nfe, max_ms: network evaluations and milliseconds per purified image of a candidate, at most.
        max_joint_ms, max_gflops: milliseconds and 10^9 floating-point operations per vote, with the classifier.
        margin: difference of certified accuracy that does not matter, in percent points.
        fields: fields of the preset to replace, as of `run`.

    Raises:
        PurifyBenchError: an argument is out of range, nothing reaches the radius within the limits, or as `run`.

    Example:
        >>> print(pb.race("embedded", radius=0.5, minutes=2))
    """
    from bench.racing import Budget, Limits
    from bench.sweep import load_preset

    chosen = load_preset(str(preset), fields)
    folder = Path(out) if out else RUNS / f"{chosen.name}-race"
    limits = Limits(max_nfe, max_ms, max_joint_ms, max_gflops)
    return race_into(folder, chosen, radius, margin, limits, Budget(draws, minutes, gpu_hours))


def race_into(
    folder: Path,
    preset: Preset,
    radius: float,
    margin: float,
    limits: Any,
    budget: Any,
    notify: Callable[[str], object] = lambda message: None,
    observe: Callable[[Race], object] = lambda race: None,
) -> Raced:
    """Race a preset into a folder, and draw the picture of the race; parameters and errors as `race`.

    Parameters:
        limits, budget: see `bench.racing`.
        notify: called with messages.
        observe: called with the race after each round.
    """
    from bench.racing import answer, race_in
    from bench.store.races import race_of

    asked = {"radius": radius, "margin": margin / 100, "limits": limits, "budget": budget}
    drive = partial(race_in, **asked, begun=time.monotonic(), observe=observe)
    run = run_into(folder, preset, notify=notify, drive=drive)
    found = race_of(run.stored.manifest)
    assert found is not None, "the race has just been stored"
    return Raced(run, answer(found, run.summary))


def race_parts(found: RaceAnswer) -> Iterator[str | Table]:
    """The verdict, the draws, the forecast, and all candidates with the evidence."""
    from bench.racing.answer import forecast_words

    yield found.verdict
    share = found.draws / found.full if found.full else 0.0
    yield (
        f"The race made {found.draws:,} draws, {share:.0%} of the most that a sweep of its {len(found.entries)} "
        f"candidates makes; {found.images} of {found.population} images are drawn."
    )
    if words := forecast_words(found):
        yield words
    yield _entries_table(found)
    for note in found.notes:
        yield f"note: {note}"


def _entries_table(found: RaceAnswer) -> Table:
    """All candidates, with the evidence against those that were dropped."""
    from rich.box import SIMPLE
    from rich.markup import escape

    from bench.api.answers import number
    from bench.api.grid import figure_table
    from bench.summary.format import p_text, percent_interval

    title = f"A race for certified accuracy at radius {found.radius:g}, margin {100 * found.margin:g} points"
    columns = ("", "purifier", "σ", "NFE", "certified % [95 %]", "images", "dropped for", "only rival", "only it", "p")
    table = figure_table(title, columns, _READING, box=SIMPLE, collapse_padding=True)
    for entry in found.entries:
        accuracy = "" if entry.accuracy is None else f"{100 * entry.accuracy:.1f} "
        d = entry.dropped
        beaten = d is not None and d.rival is not None
        table.add_row(
            "→" if entry is found.chosen else "≈" if entry.within else "",
            escape(entry.name),
            f"{entry.sigma:g}",
            number(entry.nfe, ".3g"),
            escape(accuracy + (percent_interval(entry.low, entry.high) if accuracy else "")),
            str(entry.images),
            escape(_cause(entry)),
            *((str(d.won), str(d.lost), p_text(d.p)) if beaten and d else ("", "", "")),
            style="bold" if entry is found.chosen else None,
        )
    return table


def _cause(entry: Entry) -> str:
    return "" if entry.dropped is None else entry.rival or entry.dropped.reason


class PrintedReplay:
    """The results of many replayed races at some margins; prints as `bench race --replay` does.

    Attributes:
        replays: one for each margin; see `bench.racing.Replay`.
    """

    def __init__(self, name: str, replays: list[Replay]):
        self.name, self.replays = name, replays

    def __str__(self) -> str:
        from bench.api.answers import as_text

        return as_text(replay_parts(self))


def replay_race(
    run: Run, radius: float, *, margin: float = MARGIN, repeats: int = 200, seed: int = 0, **limits: float | None
) -> PrintedReplay:
    """Race many times on the counts of a finished run: how often the race is wrong, and what it saves.

    Parameters:
        margin: in percent points.
        repeats: races, each with its own order of the images.
        limits: `max_nfe`, `max_ms`, `max_joint_ms`, `max_gflops`, as of `race`.

    Raises:
        ValueError: a parameter is out of range, or no complete row certifies the radius.

    Example:
        >>> print(pb.replay_race(pb.load("results/embedded"), radius=0.5, repeats=20))
    """
    from bench.racing import Limits, replay

    names = ("max_nfe", "max_ms", "max_joint_ms", "max_gflops")
    if unknown := limits.keys() - set(names):
        raise TypeError(f"replay_race has no argument {sorted(unknown)[0]!r}")
    limited = Limits(*(limits.get(name) for name in names))
    found = replay(run.stored, radius, margin / 100, repeats, limited, seed)
    return PrintedReplay(run.stored.folder.name, [found])


def replay_parts(found: PrintedReplay) -> Iterator[str | Table]:
    """A table with a row for each margin."""
    from rich.box import SIMPLE

    from bench.api.grid import figure_table

    first = found.replays[0]
    title = (
        f"{first.repeats} races on the counts of {found.name} at radius {first.radius:g}: {first.candidates} "
        f"candidates, {first.images} images, the best certifies {100 * first.best:.1f} %"
    )
    columns = ("margin", "best dropped", "choice outside", "behind", "draws", "[5 %, 95 %]")
    table = figure_table(title, (*columns, "sweep", "saved", "left", "ended"), box=SIMPLE, collapse_padding=True)
    for r in found.replays:
        mean, low, high = r.draws
        table.add_row(
            f"{100 * r.margin:g}",
            f"{r.lost / r.repeats:.1%}",
            f"{r.outside / r.repeats:.1%}",
            f"{100 * r.regret:.2f}",
            f"{mean:,.0f}",
            f"{low:,.0f} to {high:,.0f}",
            f"{r.sweep:,}",
            f"{r.sweep / mean:.1f}x",
            f"{r.left:.1f}",
            ", ".join(f"{name} {count / r.repeats:.0%}" for name, count in sorted(r.endings.items())),
        )
    yield table
    yield (
        "best dropped: races that dropped the candidate that the full run finds best (at most 5 % by design); choice "
        "outside: its accuracy is behind the best by the margin or more; behind: the mean of that, in points; sweep: "
        "draws of the full run; left: candidates that remained"
    )
