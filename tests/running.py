"""Runs in processes of their own, which tests disturb: signals, killed workers, plugins that wait at a gate."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from conftest import ROOT

PATIENCE = 240  # seconds in which anything must have happened, on a machine that is slow and busy
# The check before a run has few rows and passes, as tests wait for batches.
GATE = """if len(x) <= 8: return x.clamp(0, 1)
        gate = __import__("pathlib").Path({gate!r})
        (gate / f"here-{{__import__('os').getpid()}}").touch()
        while not (gate / "open").exists():
            __import__("time").sleep(0.01)
        return x.clamp(0, 1)"""


class Gate:
    """A folder at which a purifier waits: `body` is its `purify`, which goes on once the gate is open."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder, self.body = folder, GATE.format(gate=str(folder))

    def open(self) -> None:
        (self.folder / "open").touch()

    def shut(self) -> None:
        (self.folder / "open").unlink()

    def waiting(self) -> list[int]:
        """Processes that have come to the gate."""
        return [int(path.name.removeprefix("here-")) for path in self.folder.glob("here-*")]


class Running:
    """A command of `python -m bench` that leads a process group of its own, and what it has said so far."""

    def __init__(self, log: Path, arguments: tuple[object, ...]):
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bench", *map(str, arguments)],
                cwd=ROOT,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )

    @property
    def said(self) -> str:
        return " ".join(self.log.read_text().split())

    def wait_until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)

    def signal_all(self, number: int) -> None:
        """Send a signal as a terminal, systemd and SLURM do: to every process of the group."""
        os.killpg(self.process.pid, number)

    def ended(self) -> int:
        """Its exit status, when it has ended."""
        return self.process.wait(PATIENCE)

    def workers(self) -> list[int]:
        """Its worker processes, those that are just starting too."""
        return [pid for pid in children(self.process.pid) if "--multiprocessing-fork" in command_of(pid)]


@contextmanager
def started(log: Path, *arguments: object) -> Iterator[Running]:
    """A command under way; when the test is over, nothing of it is."""
    running = Running(log, arguments)
    try:
        yield running
    finally:
        with suppress(ProcessLookupError):
            running.signal_all(signal.SIGKILL)
        running.process.wait()


def children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:  # it, or one of its threads, has just ended
        return []


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.02)
