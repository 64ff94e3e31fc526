"""The command line: `python -m bench COMMAND`."""

from __future__ import annotations

from bench.cli import audit, tools
from bench.cli import quality as measuring
from bench.cli import results as reading
from bench.cli import run as running
from bench.cli.shell import app

__all__ = ["app", "audit", "measuring", "reading", "running", "tools"]

if __name__ == "__main__":
    app()
