"""Signals that reach every process of a run, as a terminal, systemd and SLURM send them."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from command import OK, counts_of, run
from running import Gate, started, wait_until_gone

INTERRUPTED = 130
pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="process trees are read from /proc")


@pytest.fixture
def gated(tiny_preset, purifier_file, tmp_path):
    """A gate; the arguments of a run whose second cell comes to it; and the counts of that run, undisturbed."""
    gate = Gate(tmp_path / "gate")
    path = tiny_preset(purifiers=["none", str(purifier_file(gate.body))], images=8)
    return gate, [path, "--batch", 16]


def undisturbed(cli, gate, arguments, folder):
    gate.open()
    assert run(cli, *arguments, "--out", folder).exit_code == OK
    return counts_of(folder)


@pytest.mark.parametrize(
    ("workers", "sent"),
    [
        (1, signal.SIGTERM),
        (2, signal.SIGINT),
        pytest.param(1, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_signal_to_all_processes_stores_what_is_under_way_and_the_same_command_continues(
    cli, gated, tmp_path, workers, sent
):
    gate, arguments = gated
    arguments, folder = [*arguments, "--out", tmp_path / "run"], tmp_path / "run"
    with started(tmp_path / "log", "run", *arguments, "--workers", workers, "--no-plots") as running:
        running.wait_until(gate.waiting)
        running.signal_all(sent)
        running.wait_until(lambda: "stopping: running batches" in running.said)
        gate.open()
        assert running.ended() == INTERRUPTED, running.said
        assert "interrupted: the finished counts are stored" in running.said
        assert "Traceback" not in running.said and "died" not in running.said
    stopped = counts_of(folder)
    resumed = run(cli, *arguments)
    assert resumed.exit_code == OK, resumed.output
    whole = undisturbed(cli, gate, gated[1], tmp_path / "undisturbed")
    assert counts_of(folder) == whole
    assert stopped.items() < whole.items() and stopped


def test_workers_that_are_still_starting_ignore_ctrl_c_without_a_word(cli, gated, tmp_path):
    gate, arguments = gated
    arguments, folder = [*arguments, "--out", tmp_path / "run"], tmp_path / "run"
    with started(tmp_path / "log", "run", *arguments, "--workers", 2, "--no-plots") as running:
        running.wait_until(running.workers)
        running.signal_all(signal.SIGINT)
        gate.open()
        assert running.ended() == INTERRUPTED, running.said
        assert "Traceback" not in running.said and "died" not in running.said
    assert run(cli, *arguments).exit_code == OK
    assert counts_of(folder) == undisturbed(cli, gate, gated[1], tmp_path / "undisturbed")


def test_a_second_signal_ends_a_run_whose_batches_never_come_back(cli, gated, tmp_path):
    gate, arguments = gated
    arguments, folder = [*arguments, "--out", tmp_path / "run"], tmp_path / "run"
    with started(tmp_path / "log", "run", *arguments, "--workers", 2, "--no-plots") as running:
        running.wait_until(gate.waiting)
        workers = running.workers()
        running.signal_all(signal.SIGTERM)
        running.wait_until(lambda: "stopping: " in running.said)
        running.signal_all(signal.SIGTERM)
        assert running.ended() == INTERRUPTED, running.said
        assert "Traceback" not in running.said
        wait_until_gone(workers)
    gate.open()
    assert run(cli, *arguments).exit_code == OK
    assert counts_of(folder) == undisturbed(cli, gate, gated[1], tmp_path / "undisturbed")
