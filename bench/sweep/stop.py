"""When to stop: Ctrl-C, SIGTERM, or the end of the time that a command has."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Stop:
    """Whether to stop: after Ctrl-C, SIGTERM or a deadline of `time.monotonic`.

    Attributes:
        timely: the deadline passed, and no signal came.
    """

    def __init__(self, deadline: float | None):
        self.deadline, self.received = deadline, False

    @property
    def timely(self) -> bool:
        return not self.received and self.deadline is not None and time.monotonic() >= self.deadline

    def __call__(self) -> bool:
        return self.received or self.timely


@contextmanager
def stop_requests(notify: Callable[[str], object], consequence: str, deadline: float | None = None) -> Iterator[Stop]:
    """A function that returns True after Ctrl-C, SIGTERM or the deadline; a second signal interrupts at once."""
    stop = Stop(deadline)

    def note(number: int, _: Any) -> None:
        if stop.received:
            raise KeyboardInterrupt
        stop.received = True
        notify(f"stopping: {consequence}; press again to stop at once")

    previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
