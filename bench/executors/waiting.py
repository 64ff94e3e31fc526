"""How long a run waited for processors that other programs used, by the kernel's own account."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

_LEAST = 60  # seconds of processor time; the share of a shorter run says little about its milliseconds
_Times = dict[Path, tuple[int, int]]


def waiting_since(proc: Path = Path("/proc"), least: float = _LEAST) -> Callable[[], float | None]:
    """Watch the threads of this process and of the worker processes that it has, or starts later.

    The returned function gives the share of their time since then, 0 to 1, in which they could have computed but waited
    for a processor: `run_delay` of Linux' /proc/PID/schedstat. None where the kernel does not tell, or within fewer
    than `least` seconds of both. A thread or worker that has ended by then is left out.
    """
    before = _times(proc)

    def share() -> float | None:
        now = _times(proc)
        ran, waited = (sum(times[k] - before.get(t, (0, 0))[k] for t, times in now.items()) for k in (0, 1))
        return round(waited / (ran + waited), 4) if ran + waited > 1e9 * least else None

    return share


def _times(proc: Path) -> _Times:
    """Thread -> nanoseconds that it ran, and that it waited."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    found: _Times = {}
    for thread in [thread for process in processes for thread in (proc / str(process)).glob("task/*")]:
        try:
            ran, waited, _ = (thread / "schedstat").read_text().split()
            found[thread] = int(ran), int(waited)
        except (OSError, ValueError):  # the thread has ended, or the kernel keeps no such account
            continue
    return found
