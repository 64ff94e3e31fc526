"""The sessions of the noxfile that no other test runs can start."""

import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.parametrize("options", [(), ("--quick",), ("--keep",)])
def test_the_speed_tests_are_found(options):
    command = [sys.executable, "-m", "pytest", "-o", "addopts=-ra", "tests/perf", "--collect-only", "-q", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line} == {
        f"tests/perf/{path.name}" for path in (ROOT / "tests" / "perf").glob("test_*.py")
    }
