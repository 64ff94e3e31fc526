"""Plugins that hang: the run ends, says where and what to do, and goes on when they are mended."""

from __future__ import annotations

import subprocess
import sys

import pytest
from command import OK, REFUSED, counts_of, run
from conftest import ROOT
from running import Gate, started

MENDED = "return x.clamp(0, 1)"
TIMEOUT = 10  # holds the seconds that a process takes to start, too: so what hangs is all that is left to count


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_whose_plugin_hangs_ends_with_the_remedy_and_goes_on_when_it_is_mended(
    cli, tiny_preset, purifier_file, tmp_path, workers
):
    plugin = purifier_file(Gate(tmp_path / "gate").body, name="hangs")
    path = tiny_preset(purifiers=["none", str(plugin)], images=8, timeout=TIMEOUT)
    arguments, folder = [path, "--batch", 16], tmp_path / "run"
    assert run(cli, *arguments, "--out", folder, "--purifiers", "none").exit_code == OK
    with started(tmp_path / "log", "run", *arguments, "--workers", workers, "--no-plots", "--out", folder) as running:
        assert running.ended() == REFUSED, running.said
        assert f"error: no batch returned within {TIMEOUT} s" in running.said
        assert (
            "the running batches belonged to: hangs at sigma = 0.5." in running.said
            and "a longer `timeout`" in running.said
        )
        assert "Traceback" not in running.said
        assert (str(plugin) in running.said.partition("most recent call first")[2]) == (workers == 1)
    stored = counts_of(folder)
    purifier_file(MENDED, name="hangs")
    undisturbed = run(cli, *arguments, "--out", tmp_path / "undisturbed")
    assert undisturbed.exit_code == OK, undisturbed.output
    whole, cells = counts_of(tmp_path / "undisturbed"), {cell for cell, *_ in counts_of(tmp_path / "undisturbed")}
    assert run(cli, *arguments, "--out", folder).exit_code == OK
    assert {key: votes for key, votes in counts_of(folder).items() if key[0] in cells} == whole
    assert stored and stored.items() < whole.items()


HANGS = """
import re, time
from types import SimpleNamespace
from bench.executors import local

local._GRACE = 0.2
engine = SimpleNamespace(show=lambda *_: {hang})
local.InProcess(engine, 0.5).show(SimpleNamespace(label="mine", sigma=0.5), [0])
"""


@pytest.mark.parametrize(
    ("hang", "status", "said"),
    [
        (
            "time.sleep(1000)",
            REFUSED,
            "the running batches belonged to: mine at sigma = 0.5. Counts so far are stored.",
        ),
        ("re.match('(a+)+$', 40 * 'a' + 'b')", 1, "Timeout (0:00:00.7"),  # holds the interpreter's lock
    ],
)
def test_a_picture_that_hangs_ends_the_process_in_native_code_too(hang, status, said):
    done = subprocess.run(
        [sys.executable, "-c", HANGS.format(hang=hang)], cwd=ROOT, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == status, done.stderr
    assert said in done.stderr and 'File "<string>"' in done.stderr
