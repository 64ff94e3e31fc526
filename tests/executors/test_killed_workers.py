"""Processes of a run on two workers that are killed, as by a machine whose memory runs out."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from command import OK, REFUSED, counts_of, run
from running import Gate, alive, started, wait_until_gone

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="process trees are read from /proc")


@pytest.fixture
def gate(tmp_path):
    return Gate(tmp_path / "gate")


@pytest.fixture
def arguments(tiny_preset, purifier_file, gate):
    """Of a run whose second cell comes to the gate, with batches for both workers."""
    return [tiny_preset(purifiers=["none", str(purifier_file(gate.body))], images=8), "--batch", 16]


@pytest.fixture
def undisturbed(cli, arguments, gate, tmp_path):
    """The counts of that run where nothing happens."""
    gate.open()
    done = run(cli, *arguments, "--out", tmp_path / "undisturbed")
    assert done.exit_code == OK, done.output
    gate.shut()
    return counts_of(tmp_path / "undisturbed")


def at_the_gate(gate, running):
    """Its workers that wait at the gate."""
    return [pid for pid in gate.waiting() if pid in running.workers() and alive(pid)]


def kill(pid):
    with suppress(ProcessLookupError):  # it was ended with another one, just before
        os.kill(pid, signal.SIGKILL)


def test_a_run_goes_on_when_a_worker_is_killed(arguments, gate, undisturbed, tmp_path):
    folder = tmp_path / "run"
    with started(tmp_path / "log", "run", *arguments, "--workers", 2, "--no-plots", "--out", folder) as running:
        running.wait_until(lambda: len(at_the_gate(gate, running)) == 2)
        killed, other = at_the_gate(gate, running)
        kill(killed)
        running.wait_until(lambda: "a worker died; another one repeats its batches" in running.said)
        running.wait_until(lambda: len(set(at_the_gate(gate, running)) - {killed}) == 2)
        assert other in at_the_gate(gate, running)
        gate.open()
        assert running.ended() == OK, running.said
        assert running.said.count("a worker died") == 1 and "Traceback" not in running.said
    assert counts_of(folder) == undisturbed


def test_batches_that_kill_whoever_takes_them_end_the_run_by_name_and_the_same_command_continues(
    cli, arguments, gate, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    with started(tmp_path / "log", "run", *arguments, "--workers", 2, "--no-plots", "--out", folder) as running:
        running.wait_until(lambda: len(at_the_gate(gate, running)) == 2)
        spared = at_the_gate(gate, running)[0]  # the others run the same batch, one after another
        for _ in range(3):
            running.wait_until(lambda: len(at_the_gate(gate, running)) == 2)
            (taking,) = set(at_the_gate(gate, running)) - {spared}
            kill(taking)
            wait_until_gone([taking])
        assert running.ended() == REFUSED, running.said
        assert (
            "died repeatedly (out of memory, or killed); the running batches belonged to: broken at sigma = 0.5"
            in running.said
        )
        assert "Try a smaller --batch" in running.said and "Traceback" not in running.said
    stored = counts_of(folder)
    gate.open()
    assert run(cli, *arguments, "--out", folder).exit_code == OK
    assert counts_of(folder) == undisturbed
    assert stored and stored.items() < undisturbed.items()


def test_a_driver_that_is_killed_leaves_no_worker_behind_and_the_same_command_continues(
    cli, arguments, gate, undisturbed, tmp_path
):
    folder = tmp_path / "run"
    with started(tmp_path / "log", "run", *arguments, "--workers", 2, "--no-plots", "--out", folder) as running:
        running.wait_until(lambda: len(at_the_gate(gate, running)) == 2)
        workers = running.workers()
        running.process.kill()
        assert running.ended() == -signal.SIGKILL
        wait_until_gone(workers)
    stored = counts_of(folder)
    gate.open()
    assert run(cli, *arguments, "--out", folder).exit_code == OK
    assert counts_of(folder) == undisturbed
    assert stored and stored.items() < undisturbed.items()
