"""The command line: `python -m bench COMMAND`."""

from __future__ import annotations

from bench.commands import running  # isort: skip  # help lists commands in the order in which they are imported
from bench.commands import measuring, planning, reading, tools
from bench.commands.shell import app

__all__ = ["app", "measuring", "planning", "reading", "running", "tools"]

if __name__ == "__main__":
    app()
