"""Processes that permissions bind, also where the tests run as root."""

from __future__ import annotations

import ctypes
import os
import pickle
from collections.abc import Callable
from typing import Any

import pytest

forked = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")


def in_a_child(function: Callable[[], Any]) -> Any:
    """What a function returns, or the error that it raises, in a process of its own that permissions bind."""
    receiving, sending = os.pipe()
    child = os.fork()
    if not child:
        try:
            renounce()
            found = function()
        except BaseException as error:
            found = type(error), str(error)
        with os.fdopen(sending, "wb") as pipe:
            pickle.dump(found, pipe)
        os._exit(0)
    os.close(sending)
    with os.fdopen(receiving, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    return pickle.loads(content)


def renounce() -> None:
    """Give up what lets root write where permissions say no: all capabilities (Linux, version 3 of their header)."""
    if os.geteuid() == 0:
        header, none = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        assert ctypes.CDLL(None, use_errno=True).capset(header, none) == 0
