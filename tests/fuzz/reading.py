"""The commands that read damaged folders, their figures, and what became of them."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fuzz.world import call, fields, write_preset

REFUSED, RIGHT, NOTED = "refused by name", "right", "noted"
WRONG, UNNAMED, TRACEBACK, OUTSIDE = "WRONG without a word", "refused, no name", "traceback", "written outside"
OUTCOMES = (REFUSED, RIGHT, NOTED, WRONG, UNNAMED, TRACEBACK, OUTSIDE)
BAD = OUTCOMES[3:]
_SAYS = re.compile(
    r"damaged|missing|incomplete|unfinished|lack|checksum|sha-256|verified|cannot be|could not|ignored|not shown"
    r"|failed|of \d+ images|are not|is not|without",
    re.I,
)


def load_plugins() -> None:
    """Import the purifiers and the classifiers that come with the project."""
    from bench.api import reading

    reading.purifiers()
    reading.classifiers()


@dataclass
class Answer:
    """What a command said: its figures, and its notes line by line; `error` is a traceback."""

    status: int
    said: str
    figures: Any = None
    notes: set[str] = field(default_factory=set)
    error: str = ""


def _ask(case: Path, *arguments: object) -> Answer:
    import traceback

    result = call(*arguments)
    error = result.exception
    text = "" if error is None or isinstance(error, SystemExit) else "".join(traceback.format_exception(error))
    return Answer(result.exit_code, result.output, result.stdout, set(result.stderr.splitlines()), text)


def _of_json(answer: Answer, *notes: str) -> Answer:
    """Take the figures and the notes out of JSON on stdout."""
    if not answer.status:
        answer.figures = json.loads(answer.figures)
        for name in notes:
            found = answer.figures.pop(name, [])
            answer.notes |= set(map(str, found.values() if isinstance(found, dict) else found))
    return answer


def _summary(case: Path) -> Answer:
    return _of_json(_ask(case, "summary", case / "run", "--json"), "notes", "evidence")


def _recommend(case: Path) -> Answer:
    return _of_json(_ask(case, "recommend", case / "run", "--radius", 0.25, "--json"), "notes")


def _compare(case: Path) -> Answer:
    return _of_json(_ask(case, "compare", case / "pristine" / "run", case / "run", "--json"), "notes", "differs")


def _tables(case: Path) -> Answer:
    answer = _ask(case, "tables", case / "run")
    if not answer.status:
        lines = [line for p in sorted((case / "run" / "tables").glob("*.md")) for line in p.read_text().splitlines()]
        answer.figures = [line for line in lines if line.startswith("|")]
        answer.notes |= set(lines)
    return answer


def _report(case: Path) -> Answer:
    answer = _ask(case, "report", case / "run")
    if not answer.status:
        page = (case / "run" / "report.html").read_text()
        found = re.search(r'<script type="application/json" id="record">(.*?)</script>', page, re.DOTALL)
        answer.figures = json.loads(found[1]) if found else None
        answer.notes |= set(re.findall(r">([^<>]+)<", page.replace(found[0], "") if found else page))
    return answer


def _plot(case: Path) -> Answer:
    answer = _ask(case, "plot", case / "run", "--formats", "svg")
    return answer if answer.status else _summary(case)


def _repair(case: Path) -> Answer:
    answer = _ask(case, "doctor", "--repair", case / "run")
    return answer if answer.status else _summary(case)


def _counts(case: Path) -> Answer:
    """The votes of a run with the weights of a case."""
    from bench.store import read_run

    os.environ["PURIFYBENCH_SPEED"] = str(case / "speed")
    preset = write_preset(case / "small.toml", fields(case / "zoo"))
    answer = _ask(case, "run", preset, "--out", case / "out", "--no-plots")
    if not answer.status:
        run = read_run(case / "out")
        of = {key: (cell.purifier, cell.sigma) for key, cell in run.cells.items()}
        rows = zip(
            run.blocks["cell"], *(run.blocks[name] for name in ("image", "stage", "first", "votes")), strict=True
        )
        answer.figures = sorted(str((of[cell], *others)) for cell, *others in rows)
        answer.notes |= set(answer.said.splitlines())
    return answer


def _plan(case: Path) -> Answer:
    """Whether a preset means what its file says. It has no checksum: another number is another preset."""
    from bench.sweep import load_preset

    path = case / "preset" / "mine.toml"
    answer = _ask(case, "run", path, "--dry-run", "--out", case / "out")
    if not answer.status:
        said = tomllib.loads(path.read_text())
        base = said.pop("extends", None)
        if base is not None and (path.parent / base).is_file():
            said = {**tomllib.loads((path.parent / base).read_text()), **said}
        said.pop("extends", None)
        preset = load_preset(str(path), {}).model_dump()
        answer.figures = [key for key, value in said.items() if not _same(value, preset[key])]
    return answer


def _same(said: Any, read: Any) -> bool:
    """Whether a value of a preset is the one in its file, up to types, order and the folders of files."""
    if isinstance(read, list):
        said = [part.strip() for part in said.split(",")] if isinstance(said, str) else said
        return len(set(map(str, said))) >= len(read) and all(any(_same(s, r) for s in said) for r in read)
    if isinstance(read, dict):
        name = said.get("name", said) if isinstance(said, dict) else said
        return "name" not in read or str(read["name"]).endswith(str(name).partition(":")[0])
    try:
        return float(said) == float(read)
    except (TypeError, ValueError):
        return str(said) == str(read) or str(read).endswith(str(said))


READERS: dict[str, Callable[[Path], Answer]] = {
    function.__name__[1:]: function
    for function in (_summary, _recommend, _compare, _tables, _report, _plot, _repair, _counts, _plan)
}
OF_RUN = ("summary", "summary", "recommend", "compare", "tables", "report", "plot", "repair")


def snapshot(folders: Iterable[Path]) -> dict[str, str]:
    """Every file, folder and link below some folders, with its content."""
    found = {}
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_symlink():
                found[str(path)] = f"-> {os.readlink(path)}"
            else:
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "other"
    return found


def plain(answer: Answer, case: Path) -> str:
    """The figures as a text that does not depend on the folder of the case."""
    return json.dumps(answer.figures, sort_keys=True, default=str).replace(str(case), "CASE")


def alike(first: Any, second: Any) -> bool:
    """Whether figures are the same, up to the float32 in which exports hold seconds."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(alike, first, second))
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-6) or (first != first and second != second)
    return first == second


def judge(answer: Answer, expected: Answer, case: Path, damaged: Path, changed: list[str]) -> str:
    """Which of `OUTCOMES` it was.

    Parameters:
        expected: what the command says of the undamaged folder, its figures as `plain` text.
        changed: files outside of the case's own folders that are not as they were.
    """
    if changed:
        return OUTSIDE
    if answer.error:
        return TRACEBACK
    if answer.status:
        said = " ".join(answer.said.split())
        named = any(name in said for name in (damaged.name, f"'{damaged.stem}'", str(case)))
        if damaged.suffix == ".toml" and damaged.is_file():  # a value that is refused may be named instead
            text = damaged.read_text(errors="replace")
            named = named or any(value in text for value in re.findall("'([^']+)'", said))
        return REFUSED if named else UNNAMED
    if alike(json.loads(plain(answer, case)), json.loads(expected.figures)):
        return RIGHT
    news = {note.replace(str(case), "CASE") for note in answer.notes} - expected.notes
    return NOTED if any(map(_SAYS.search, news)) else WRONG
