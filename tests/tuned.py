"""Tuning with speeds and distances that a test makes up, and a cache of its own."""

from __future__ import annotations

import pytest

from bench.engine.tuning import cache as tuning_cache
from bench.engine.tuning import search
from bench.engine.tuning.trials import Trials


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv(tuning_cache._FOLDER, str(tmp_path / "speed"))
    return tmp_path / "speed"


@pytest.fixture
def scripted(monkeypatch):
    """Speeds and distances by network, precision, layout and compilation, and bf16 as a fast precision.

    A script maps (network, way) to seconds, or distance; compiling takes no time.
    """

    def script(seconds, distance=lambda name, way: 0.0):
        monkeypatch.setattr(search, "choose_precision", lambda asked, _: "bf16" if asked == "auto" else asked)
        monkeypatch.setattr(Trials, "seconds", lambda self, name, ways, rows: [seconds(name, way) for way in ways])
        monkeypatch.setattr(Trials, "distance", lambda self, name, way: distance(name, way))
        monkeypatch.setattr(Trials, "first_call", lambda self, name, way: 0.0)

    return script
