"""Measure this machine's device in steps of limited time, and say for each goal whether it was reached.

Every step runs in a process of its own, so that one that fails or hangs costs no other.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.errors import InputError
from bench.files import make_folder, read_json, write_file, writing
from bench.names import nearest

RECORD, PICTURE = "check.json", "check.png"
LIMITS = {  # seconds of each step, in order
    "versions": 40,
    "noise": 40,
    "votes": 60,
    "batches": 60,
    "resume": 100,
    "embedded_sweep": 150,
    "embedded_race": 75,
    "tuning": 110,
    "full_size_race": 120,
    "classifier_kernels": 90,
    "second_worker": 60,
}
_PATIENCE = 5  # times as long for the reduced form, whose machine may be slow and busy
_AT_MOST, _AT_LEAST = "at most", "at least"


class Goal(NamedTuple):
    """A figure of a step, by the keys that lead to it, and the value that it should reach."""

    title: str
    step: str
    keys: tuple[str, ...]
    bound: str
    value: float

    def figure(self, results: Mapping[str, Any]) -> float:
        """The measured figure; NaN where its step has none."""
        found: Any = results.get(self.step, {}).get("result")
        for key in self.keys:
            found = found.get(key) if isinstance(found, dict) else None
        return float(found) if isinstance(found, int | float) else math.nan

    def reached(self, figure: float) -> bool | None:
        """None where nothing was measured."""
        if math.isnan(figure):
            return None
        return figure <= self.value if self.bound == _AT_MOST else figure >= self.value


_FULL, _ONE, _ODE = ("onestep-edm",), ("onestep-edm",), ("pf-ode(steps=3)",)
GOALS = (
    Goal("noise: distance of the kernel from eager torch", "noise", ("farthest",), _AT_MOST, 5e-7),
    Goal("votes that differ from the CPU's, share", "votes", ("share",), _AT_MOST, 0.002),
    Goal("votes that the batch size changes", "batches", ("worst",), _AT_MOST, 0),
    Goal("blocks that differ after kill and resume", "resume", ("differing",), _AT_MOST, 0),
    Goal("full-size: engine / plain loop", "full_size_race", (*_FULL, "engine_to_cohen_loop"), _AT_LEAST, 5.5),
    Goal("full-size: share of the matmul peak", "full_size_race", (*_FULL, "matmul_share"), _AT_LEAST, 0.5),
    Goal("full-size: engine / networks alone", "full_size_race", (*_FULL, "engine_to_networks"), _AT_LEAST, 0.97),
    Goal("embedded, one step: engine / networks alone", "embedded_race", (*_ONE, "engine_to_networks"), _AT_LEAST, 0.8),
    Goal("embedded, pf-ode: engine / networks alone", "embedded_race", (*_ODE, "engine_to_networks"), _AT_LEAST, 0.85),
    Goal("embedded: share of the time in noise", "embedded_race", (*_ONE, "profile", "noise"), _AT_MOST, 0.03),
    Goal("embedded sweep, whole command, s", "embedded_sweep", ("seconds",), _AT_MOST, 30),
    Goal("auto for the full-size pair, s", "tuning", ("seconds",), _AT_MOST, 60),
)


def check(folder: Path, only: Sequence[str], small: bool, say: Callable[[str], object]) -> dict[str, Any]:
    """Run the steps (`only`; all without any), and write RECORD and PICTURE into a folder; returns the record.

    Parameters:
        small: the reduced form, for a CPU.
        say: called with a line for each step.

    Raises:
        InputError: a step is unknown.
    """
    for name in only:
        if name not in LIMITS:
            raise InputError(nearest("step", name, LIMITS))
    make_folder(folder)
    steps: dict[str, Any] = {}
    for name in only or LIMITS:
        started = time.monotonic()
        steps[name] = _measure(name, small)
        steps[name]["seconds"] = round(time.monotonic() - started, 1)
        say(f"{name}: {steps[name].get('error', 'done')} ({steps[name]['seconds']:.0f} s)")
        record = {"small": small, "steps": steps, "goals": _judged(steps, small)}
        write_file(folder / RECORD, json.dumps(record, indent=1) + "\n")
    draw(record, folder / PICTURE)
    return record


def _measure(name: str, small: bool) -> dict[str, Any]:
    """The result of a step in a process of its own, or the error that ended it."""
    with tempfile.TemporaryDirectory(prefix="purifybench-") as scratch:
        out = Path(scratch, "result.json")
        command = [sys.executable, "-m", "bench", "gpu", "step", name, str(out), *(["--small"] if small else [])]
        limit = LIMITS[name] * (_PATIENCE if small else 1)
        environment = {**os.environ, "TMPDIR": scratch}  # a step that is killed leaves nothing behind
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=environment)
        except subprocess.TimeoutExpired:
            return {"error": f"not done after {limit} s"}
        if done.returncode or not out.is_file():
            return {"error": f"exit status {done.returncode}", "output": (done.stdout + done.stderr)[-2000:]}
        return {"result": read_json(out)}


def _judged(steps: Mapping[str, Any], small: bool) -> list[dict[str, Any]]:
    """A row for each goal: its title, the measured figure, the goal, and whether it is reached; None: not known.

    The goals are those of a GPU, so the reduced form reaches none and misses none.
    """
    rows = []
    for goal in GOALS:
        figure = goal.figure(steps)
        known = None if math.isnan(figure) else figure
        words = f"{goal.bound} {goal.value:g}"
        rows.append(
            {"title": goal.title, "figure": known, "goal": words, "reached": None if small else goal.reached(figure)}
        )
    return rows


def draw(record: Mapping[str, Any], path: Path) -> None:
    """Bars of each measured figure as a share of its goal, on a scale on which right of the line is better."""
    from matplotlib.figure import Figure

    shares = {}
    for goal, row in zip(GOALS, record["goals"], strict=True):
        if row["figure"] is not None and goal.value:
            ratio = row["figure"] / goal.value
            shares[f"{goal.title}: {row['figure']:.3g}"] = ratio if goal.bound == _AT_LEAST else 1 / max(ratio, 0.1)
    figure = Figure(figsize=(9, 1.4 + 0.42 * max(1, len(shares))), layout="constrained")
    axes = figure.subplots()
    colours = ["grey" if record["small"] else "#2a7f62" if share >= 1 else "#c8553d" for share in shares.values()]
    axes.barh(list(shares), list(shares.values()), color=colours, height=0.6)
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set(xlabel="measured, as a share of the goal (right of the line: reached)", xlim=(0, 2.5))
    axes.spines[["top", "right"]].set_visible(False)
    facts = record["steps"].get("versions", {}).get("result", {})
    form = "reduced form, no goal applies: " if record["small"] else ""
    axes.set_title(f"{form}{facts.get('device', 'unknown device')}, torch {facts.get('torch', '?')}", fontsize=10)
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=110)
