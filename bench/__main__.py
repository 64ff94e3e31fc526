"""The command line: `python -m bench COMMAND`."""

from __future__ import annotations

from bench.cli import arena, choose, data, gpu, publish, quality, race, reproduce, results, run, scaffold, tools, trust
from bench.cli.shell import app

__all__ = [
    "app",
    "arena",
    "choose",
    "data",
    "gpu",
    "publish",
    "quality",
    "race",
    "reproduce",
    "results",
    "run",
    "scaffold",
    "tools",
    "trust",
]

if __name__ == "__main__":
    app()
