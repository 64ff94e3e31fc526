"""The command line: `python -m bench COMMAND`."""

from __future__ import annotations

from bench.cli import attack, audit, data, gpu, quality, results, run, tools
from bench.cli.shell import app

__all__ = ["app", "attack", "audit", "data", "gpu", "quality", "results", "run", "tools"]

if __name__ == "__main__":
    app()
