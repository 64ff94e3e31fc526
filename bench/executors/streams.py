"""Standard streams that cannot end a run: output that nobody can read is dropped, and the counts go on."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_STANDARD = (0, 1, 2)  # file descriptors of stdin, stdout and stderr


def _nowhere() -> TextIO:
    return os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


class _Tolerant:
    """A text stream that drops what it cannot write; `failure` is the first error. All else is the stream's own."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self.failure: OSError | None = None

    def _attempt(self, call: Callable[..., object], *arguments: object) -> None:
        if self.failure is None:
            try:
                call(*arguments)
            except OSError as error:  # a pipe without a reader, a full disk, a terminal that was closed
                self.failure = error

    def write(self, text: str) -> int:
        self._attempt(self._stream.write, text)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self._attempt(self._stream.writelines, lines)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def discard(self) -> None:
        """After a failure, send what is buffered nowhere: the interpreter would fail on it again as it exits."""
        if self.failure is not None:
            with suppress(OSError), _nowhere() as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def tolerate() -> tuple[_Tolerant, _Tolerant]:
    """Replace sys.stdout and sys.stderr by streams that never fail, and return them.

    A closed stream becomes the null device, and a character that a stream cannot encode is escaped.
    """
    for number in _STANDARD:  # else the next file that is opened would be taken for a standard stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives it the lowest number that is free
    out, err = (_Tolerant(stream or _nowhere()) for stream in (sys.stdout, sys.stderr))
    for stream in (out, err):
        with suppress(AttributeError):  # only Python's own streams can be reconfigured
            stream.reconfigure(errors="backslashreplace")
    sys.stdout, sys.stderr = out, err  # type: ignore[assignment]
    return out, err


@contextmanager
def tolerant_streams() -> Iterator[Callable[[], OSError | None]]:
    """Let no write to stdout or stderr fail inside the context.

    Yields:
        A function that flushes stdout and returns the error that ended it, or None.
    """
    before = sys.stdout, sys.stderr
    out, err = tolerate()

    def failure() -> OSError | None:
        out.flush()
        return out.failure

    try:
        yield failure
    finally:
        for stream in (out, err):
            stream.flush()
            stream.discard()
        sys.stdout, sys.stderr = before
