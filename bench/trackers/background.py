"""A sink in a thread of its own: a tracker that waits for its server does not keep the networks waiting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

from bench.errors import RunError

_PATIENCE = 60.0  # seconds for what is left at the end


class Sink(Protocol):
    """A run of a tracker's library."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def finish(self, ended: bool) -> None: ...


class Background:
    """Makes a sink and calls it in one thread, in order. The first error of the sink is raised at the next call.

    Parameters:
        name: of the tracker, for messages.
        patience: seconds that `finish` waits for the sink.
    """

    def __init__(self, make: Callable[[], Sink], name: str, patience: float = _PATIENCE):
        self._make, self._name, self._patience = make, name, patience
        self._calls: SimpleQueue[Callable[[Sink], None]] = SimpleQueue()
        self._error: Exception | None = None
        self._finished = False
        self._thread = Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        self._raise()
        self._calls.put(lambda sink: sink.log(metrics, step))

    def finish(self, ended: bool) -> None:
        self._raise()

        def last(sink: Sink) -> None:
            sink.finish(ended)
            self._finished = True

        self._calls.put(last)
        self._thread.join(self._patience)
        self._raise()
        if self._thread.is_alive():
            raise RunError(f"{self._name} did not take the last figures within {self._patience:g} seconds")

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            sink = self._make()
            while not self._finished:
                self._calls.get()(sink)
        except Exception as error:
            self._error = error
