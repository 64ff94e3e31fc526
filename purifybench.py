"""The public API of PurifyBench: load or make runs, read them, choose a purifier.

    import purifybench as pb

    run = pb.load("results/embedded")
    print(pb.recommend(run, radius=0.5, max_nfe=2))

Importing this module loads no torch and no pandas: each name is imported when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from bench import __version__

if TYPE_CHECKING:
    from bench.api.attacking import attack
    from bench.api.publishing import board, export_hub
    from bench.api.racing import race, replay_race
    from bench.api.reading import (
        bundle,
        choose,
        classifiers,
        compare,
        plot,
        presets,
        purifiers,
        recommend,
        report,
        verify,
    )
    from bench.api.runs import Run, certify, load, run
    from bench.errors import PurifyBenchError
    from bench.trackers import Callback

__all__ = [
    "Callback",
    "PurifyBenchError",
    "Run",
    "__version__",
    "attack",
    "board",
    "bundle",
    "certify",
    "choose",
    "classifiers",
    "compare",
    "export_hub",
    "load",
    "plot",
    "presets",
    "purifiers",
    "race",
    "recommend",
    "replay_race",
    "report",
    "run",
    "verify",
]

_MODULES = {
    "bench.api.attacking": ("attack",),
    "bench.api.publishing": ("board", "export_hub"),
    "bench.api.racing": ("race", "replay_race"),
    "bench.api.runs": ("Run", "certify", "load", "run"),
    "bench.errors": ("PurifyBenchError",),
    "bench.trackers": ("Callback",),
    "bench.api.reading": (
        *("bundle", "choose", "classifiers", "compare", "plot", "presets", "purifiers", "recommend", "report"),
        "verify",
    ),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
