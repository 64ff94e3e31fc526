"""The errors that a user can act on. Every message names the cause and the remedy."""

from __future__ import annotations


class PurifyBenchError(Exception):
    """Base class of all errors that this project raises on purpose.

    The command line prints the message and exits with status 2. Any other exception is a programming error, and its
    traceback is shown.
    """


class InputError(PurifyBenchError, ValueError):
    """A value that the user gave cannot be used; the message names it and the values that can."""


class TimeOver(PurifyBenchError):
    """A time limit ended a command before its work was done. All of it is stored, and the same command continues."""


class RunError(PurifyBenchError, RuntimeError):
    """A run cannot start or go on here; counts that are stored are kept."""
