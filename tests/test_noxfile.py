"""The sessions of the noxfile that no other test runs can start."""

import subprocess
import sys

from conftest import ROOT


def test_the_speed_tests_are_found():
    command = [sys.executable, "-m", "pytest", "-o", "addopts=-ra", "tests/perf", "--collect-only", "-q"]
    command += ["--quick", "--keep"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {line.partition("::")[0] for line in done.stdout.splitlines() if "::" in line} == {
        f"tests/perf/{path.name}" for path in (ROOT / "tests" / "perf").glob("test_*.py")
    }
