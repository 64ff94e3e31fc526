"""The command line: `python -m bench COMMAND`."""

from __future__ import annotations

from bench.cli import gpu as borrowing
from bench.cli import quality as measuring
from bench.cli import results as reading
from bench.cli import run as running
from bench.cli import tools
from bench.cli.shell import app

__all__ = ["app", "borrowing", "measuring", "reading", "running", "tools"]

if __name__ == "__main__":
    app()
