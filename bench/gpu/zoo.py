"""Train the networks of a data set one after another within a number of minutes, in one command or in several."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.errors import InputError, TimeOver
from bench.files import make_folder, read_json, validated, write_file
from bench.names import nearest
from bench.training.curves import BEFORE, draw_curves
from bench.training.initial import copy_bundled
from bench.training.jobs import CLASSIFIERS, NEEDS, Job, read_recipe
from bench.training.stage import Refused, train_one

SHARES = {  # of the minutes, in the order of training; those that end early leave their time to later ones
    "edm": 0.35,
    "ddpm": 0.15,
    "cm": 0.30,
    "cm-ft": 0.05,
    "edm-ft": 0.05,
    "edm-cal": 0.05,
    "classifier-ft": 0.05,
}
TIMED = ("edm", "ddpm", "cm")  # end with their share; the others, which are compared, always make all of their steps
_STATE = "zoo.json"


@dataclass
class _Stage:
    """The state of a stage: seconds of training so far, whether it is done, and why it failed, if it did."""

    seconds: float = 0.0
    done: bool = False
    failure: str = ""

    @property
    def over(self) -> bool:
        return self.done or bool(self.failure)


@dataclass
class Zoo:
    """The trainings of a folder.

    Attributes:
        job: settings of all stages; `out` is the folder. Batch and compilation are those of the timed stages.
        stages: names, in the order of training.
        minutes: of training in all commands together.
        onward: begin with the bundled networks, where there are some.
        state: stage -> its state, kept in the folder.
    """

    job: Job
    stages: Sequence[str]
    minutes: float
    onward: bool = False
    state: dict[str, _Stage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage not in SHARES:
                raise InputError(nearest("stage", stage, SHARES))
        self.stages = [stage for stage in SHARES if stage in self.stages]
        path = self._folder / _STATE
        if self.job.fresh:
            path.unlink(missing_ok=True)
            for stage in SHARES:
                _remove_checkpoints(self.job, stage)
            self.job = replace(self.job, fresh=False)  # a stage that is paused in this command goes on in it
        self.state = _read_state(path) if path.is_file() else {}
        self.state = {stage: self.state.get(stage, _Stage()) for stage in SHARES}

    @property
    def _folder(self) -> Path:
        return Path(self.job.out or "")

    def seconds_left(self) -> float:
        """Of the minutes of all commands together."""
        return 60 * self.minutes - sum(stage.seconds for stage in self.state.values())

    def train(
        self,
        stop: Callable[[], bool],
        say: Callable[[str], object],
        keep: Callable[[], object] = lambda: None,
    ) -> list[str]:
        """Train the stages that are not done; returns the reasons of those that failed, in this command or earlier.

        Parameters:
            stop: pauses the trainings once it returns True, before the next step.
            say: called with a message.
            keep: called when a stage has ended.

        Raises:
            TimeOver: `stop` paused the trainings, or the minutes were over; the state of the unfinished one is saved.
        """
        for stage in self.stages:
            state = self.state[stage]
            if state.over:
                say(f"{stage}: {state.failure or 'done before'}")
                continue
            if without := [s for s in NEEDS[stage] if self.state.get(s, _Stage()).failure]:
                state.failure = f"not trained, because it needs {', '.join(without)}"
                say(f"{stage}: {state.failure}")
                continue
            self._train_stage(stage, stop, say)
            keep()
        return [f"{stage}: {state.failure}" for stage, state in self.state.items() if state.failure]

    def _train_stage(self, stage: str, stop: Callable[[], bool], say: Callable[[str], object]) -> None:
        """Train one stage, or go on with it, and store its state; raises TimeOver as `train`."""
        state, started = self.state[stage], time.monotonic()
        left = self.seconds_left()
        if stop() or left <= 0:
            raise TimeOver(self._paused(stage))
        if stage in TIMED:
            seconds = seconds_of(stage, self.stages, {s: self.state[s].seconds for s in SHARES}, self._over(), left)
            job = replace(self.job, minutes=seconds / 60, timed=True, stop=stop)
            say(f"{stage}: {seconds:.0f} s")
        else:
            job = replace(self.job, batch=None, compiled=False)
            job = replace(job, stop=lambda: stop() or time.monotonic() - started >= left)  # to be continued
            say(f"{stage}: all steps of its recipe")
        if self.onward and NEEDS[stage] == ("classifier",):  # a stage that starts from no other network
            job = replace(job, onward=copy_bundled(job, stage))
        try:
            path, summary = train_one(job, stage)
        except TimeOver:
            self._store(stage, started)
            raise TimeOver(self._paused(stage)) from None
        except (Refused, FloatingPointError) as error:
            state.failure = str(error)
            say(f"{stage}: failed: {error}")
        else:
            state.done = True
            say(f"{stage}: {summary} -> {path}")
        self._store(stage, started)
        with suppress(ImportError):  # a borrowed machine may have no matplotlib
            draw_curves(job.work())
        _remove_checkpoints(job, stage)

    def _over(self) -> set[str]:
        return {stage for stage, state in self.state.items() if state.over}

    def _paused(self, stage: str) -> str:
        left = ", ".join(s for s in self.stages if not self.state[s].over)
        more = "" if self.seconds_left() > 0 else " with more --minutes"
        return f"paused in {stage}; not done: {left}. The same command{more} continues in {self.job.out}"

    def _store(self, stage: str, started: float) -> None:
        """Add the time since `started` to a stage, and write the state."""
        self.state[stage].seconds += time.monotonic() - started
        state = {name: asdict(state) for name, state in self.state.items()}
        write_file(make_folder(self._folder) / _STATE, json.dumps(state, indent=1) + "\n")


def _read_state(path: Path) -> dict[str, _Stage]:
    try:
        return validated(dict[str, _Stage], read_json(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}. Delete it, or give another --out") from error


def seconds_of(
    stage: str, stages: Sequence[str], spent: Mapping[str, float], over: Collection[str], left: float
) -> float:
    """Seconds that a timed stage still has, of the `left` ones.

    Unfinished stages divide what the finished ones have left among them, by their shares.

    Parameters:
        spent: seconds of each stage so far.
        over: stages that are done or have failed.
    """
    unfinished = [s for s in stages if s not in over]
    for_them = left + sum(spent[s] for s in unfinished)
    whole = for_them * SHARES[stage] / sum(SHARES[s] for s in unfinished)
    return min(left, max(0.0, whole - spent[stage]))


def _remove_checkpoints(job: Job, stage: str) -> None:
    """Delete the checkpoint of a stage that has ended, which is larger than its network, and its initial weights."""
    recipe: dict[str, Any] = read_recipe("classifiers" if stage in CLASSIFIERS else "purifiers", job.dataset)
    for method in recipe[stage].get("methods", (None,)):
        name = f"{stage}-{method}" if method else stage
        for end in (".pt", f"{BEFORE}.safetensors", f"{BEFORE}.json", f"{BEFORE}.csv"):
            (job.work() / f"{name}{end}").unlink(missing_ok=True)
