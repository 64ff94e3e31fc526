"""Damage every kind of file that is read, and count what becomes of it: `nox -s fuzz -- --minutes 5`.

Each case is drawn from (seed, number), so `--seed S --only K` repeats one and shows what was said. A case runs in a
process of its own with limits of memory, time and file size. The exit status is 1 if a case ended in one of `BAD`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from fuzz import faults, reading, world  # noqa: E402

PATIENCE = 90  # seconds of a case; a machine may be busy
_MEMORY, _FILE = 3 << 30, 1 << 28  # bytes beyond those of the libraries; bytes of one file
TREES = ("run", "run", "run", "exported", "exported", "exported", "zoo", "preset")
LIBRARIES = ("__main__", "analysis", "api.reading", "data", "doctor.dry_run", "engine.engine", "engine.loader", "plots")
LIBRARIES += ("report.page", "store.imported", "store.repair", "sweep.run", "store.examples")
LIBRARIES = tuple(f"bench.{name}" for name in LIBRARIES)
LIBRARIES += ("matplotlib.pyplot", "purifiers.nets.hub.files", "pyarrow.dataset", "pyarrow.parquet", "scipy.stats")


def apart(work: Callable[[Callable[[object], None]], None], log: Path, limited: bool, quiet: bool) -> list[list]:
    """What `work(tell)` tells in a process of its own; a last item ["died", why] if it did not end by itself."""
    pid = os.fork()
    if not pid:
        try:
            if quiet:
                nowhere = os.open(os.devnull, os.O_RDWR)
                for number in (1, 2):
                    os.dup2(nowhere, number)
            if limited:
                used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY,) * 2)
                resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE,) * 2)
            with log.open("w") as file:
                if limited:
                    stacks = log.with_suffix(".stacks").open("w")
                    faulthandler.dump_traceback_later(PATIENCE - 5, file=stacks)
                work(lambda item: print(json.dumps(item), file=file, flush=True))
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            with log.open("a") as file:
                print(json.dumps(["died", traceback.format_exc()]), file=file)
        finally:
            os._exit(1)
    status, deadline = None, time.monotonic() + (PATIENCE if limited else 600)
    while status is None:
        ended, code = os.waitpid(pid, os.WNOHANG)
        if ended:
            status = code
        elif time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            status = -1
        else:
            time.sleep(0.01)
    told = [json.loads(line) for line in log.read_text().splitlines()]
    stacks = log.with_suffix(".stacks")
    if status and not any(item[0] == "died" for item in told):
        where = stacks.read_text() if stacks.exists() else ""
        told.append(["died", f"no end within {PATIENCE} s\n{where}" if status == -1 else f"wait status {status}"])
    return told


def prepare(case: Path, tree: str, pristine: Path) -> Path:
    """Copy a tree and its surroundings into the folder of a case; returns the copy."""
    target = case / ("run" if tree == "exported" else tree)
    shutil.copytree(pristine / tree, target)
    (case / "pristine").symlink_to(pristine)
    if tree == "zoo":
        shutil.copytree(pristine / "speed", case / "speed")
    code = case / "outside" / "code"
    code.mkdir(parents=True)
    (case / "outside" / "sentinel.txt").write_text("this file is somebody else's\n")
    (code / "theirs.py").write_text(world.PLUGIN.format(trace=str(case / "outside" / "ran"), name="theirs"))
    world.write_preset(code / "theirs.toml", world.fields(pristine / "zoo", purifiers=["theirs.py"]))
    return target


def draw(rng: Random) -> tuple[str, str]:
    """The tree that a case damages, and the command that reads it."""
    tree = rng.choice(TREES)
    command = {"zoo": "counts", "preset": "plan"}.get(tree) or rng.choice(reading.OF_RUN)
    return ("run" if command == "repair" else tree), command  # there is nothing to repair in exports


def one(number: int, seed: int, intact: Undamaged, tell: Callable[[object], None]) -> None:
    """Run a case and tell its fault, and its outcome."""
    root = intact.root
    rng, case, pristine = Random(f"{seed} {number}"), root / "cases" / str(number), root / "pristine"
    tree, command = draw(rng)
    target = prepare(case, tree, pristine)
    if tree == "zoo" and rng.random() < 0.15:
        target = case / "speed"
    fault, damaged, done = faults.inject(target, rng, case / "outside")
    tell(["case", fault, f"{command} of {tree}: {fault} in {damaged.relative_to(case)}: {done}"])
    os.chdir(root / "cwd")
    watched = [case / "outside", pristine, root / "cwd"]
    before = reading.snapshot(watched)
    answer = reading.READERS[command](case)
    after = reading.snapshot(watched)
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    outcome = reading.judge(answer, intact.answer(tree, command), case, damaged, changed)
    tell(["outcome", outcome, answer.error or answer.said[-2000:], changed])


class Undamaged:
    """The undamaged folders, and what each command says of each; `quiet` keeps its output off the terminal."""

    def __init__(self, root: Path, quiet: bool):
        self.root, self.quiet = root, quiet
        self.known: dict[str, reading.Answer] = {}
        for name in ("cases", "cwd", "pristine"):
            (root / name).mkdir()
        died = apart(lambda tell: world.make(root / "pristine"), root / "make.log", limited=False, quiet=quiet)
        if died:
            raise SystemExit(f"the undamaged folders could not be made: {died}")

    def answer(self, tree: str, command: str) -> reading.Answer:
        """What a command says of a tree: its figures as `plain` text. Exports are read as their database."""
        tree = "run" if tree == "exported" else tree
        case = self.root / "cases" / f"{tree}-{command}"
        if case.name not in self.known:
            prepare(case, tree, self.root / "pristine")

            def ask(tell: Callable[[object], None]) -> None:
                os.chdir(self.root / "cwd")
                answer = reading.READERS[command](case)
                notes = [note.replace(str(case), "CASE") for note in answer.notes]
                tell([answer.status, answer.said + answer.error, reading.plain(answer, case), notes])

            ((status, said, figures, notes), *died) = apart(ask, self.root / "ask.log", False, self.quiet)
            if died or status:
                raise SystemExit(f"{command} of an undamaged {tree} ended with {status}: {said} {died}")
            self.known[case.name] = reading.Answer(status, said, figures, set(notes))
        return self.known[case.name]


def table(counts: Counter[tuple[str, str]]) -> str:
    """Faults by outcome."""
    lines = [" " * 14 + "".join(f"{name:>22}" for name in reading.OUTCOMES)]
    for fault in [*sorted({fault for fault, _ in counts}), "all"]:
        row = [sum(n for (f, o), n in counts.items() if o == name and fault in (f, "all")) for name in reading.OUTCOMES]
        lines.append(f"{fault:14}" + "".join(f"{n:22}" for n in row))
    return "\n".join(lines)


def main() -> int:
    """Fuzz as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--cases", type=int, help="so many cases instead of a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone, with what was said")
    options = parser.parse_args()
    for name in LIBRARIES:  # once, and not in every child
        import_module(name)
    reading.load_plugins()
    os.environ["COLUMNS"] = "400"
    counts: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory(prefix="purifybench-fuzz-") as folder:
        root = Path(folder).resolve()
        intact = Undamaged(root, options.only is None)
        deadline = time.monotonic() + 60 * options.minutes
        number = options.only or 0
        while number < options.cases if options.cases else time.monotonic() < deadline:
            intact.answer(*draw(Random(f"{options.seed} {number}")))  # kept for later cases, unlike in a child
            told = apart(
                lambda tell, k=number: one(k, options.seed, intact, tell),  # type: ignore[misc]
                root / "case.log",
                limited=True,
                quiet=options.only is None,
            )
            facts = {item[0]: item[1:] for item in told}
            fault, done = facts.get("case", ["none", ""])
            outcome, said, changed = facts.get("outcome", [reading.TRACEBACK, *facts.get("died", ["?"]), []])
            counts[fault, outcome] += 1
            if outcome in reading.BAD or options.only is not None:
                last = said.strip().splitlines()[-1:] if options.only is None else [said]
                print(
                    f"--seed {options.seed} --only {number}: {outcome}: {done}",
                    *changed,
                    *last,
                    sep="\n    ",
                    flush=True,
                )
            shutil.rmtree(root / "cases" / str(number), ignore_errors=True)
            number += 1
            if options.only is not None:
                break
    print(table(counts))
    return int(any(outcome in reading.BAD for _, outcome in counts))


if __name__ == "__main__":
    sys.exit(main())
