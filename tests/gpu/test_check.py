"""The check of a GPU: its steps in their reduced form, and what becomes of steps that fail or hang."""

import json
import math
import sys
import time

import pytest
from command import FAILED, OK

from bench.errors import InputError, RunError
from bench.gpu import check, steps
from bench.gpu.runs import run_command


@pytest.fixture
def scripted(monkeypatch):
    """Replace the process of a step by a Python text that is given the path of its result."""

    def replace(**texts):
        real = check.subprocess.run

        def start(command, **options):
            name, out = command[command.index("step") + 1], command[command.index("step") + 2]
            return real([sys.executable, "-c", texts[name], out], **options)

        monkeypatch.setattr(check.subprocess, "run", start)

    return replace


EXACT = {  # results of steps that are known beforehand
    "votes": {"differing": 0},  # the device is the CPU itself
    "batches": {"moved": {"none": 0, "onestep-edm": 0, "pf-ode(steps=3)": 0}},
    "resume": {"blocks": 16, "differing": 0},
    "embedded_sweep": {"compared_draws": 300, "differing_votes": 0},
}
WRITES = "import sys, json; json.dump({!r}, open(sys.argv[1], 'w'))"


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "full_size_race" else name for name in check.LIMITS]
)
def test_each_step_measures_on_a_cpu(name, cli, monkeypatch, tmp_path):
    def here(*arguments):
        """The command in this process; in one of its own it takes ten seconds to load torch and diffusers."""
        done = cli(*arguments)
        assert done.exit_code == OK, done.output

    monkeypatch.setattr(steps, "run_command", here)
    monkeypatch.setenv("PURIFYBENCH_SPEED", str(tmp_path))
    result = getattr(steps, name)(True)
    assert json.loads(json.dumps(result)) == result
    for (
        goal
    ) in check.GOALS:  # every figure with a goal is found, but those of networks that the reduced form leaves out
        if goal.step == name and "pf-ode(steps=3)" not in goal.keys:
            assert math.isfinite(goal.figure({name: {"result": result}})), goal
    assert EXACT.get(name, {}).items() <= result.items()


def test_later_steps_run_when_earlier_ones_fail_or_hang(scripted, monkeypatch, tmp_path):
    monkeypatch.setattr(check, "LIMITS", {"votes": 1, "noise": 20, "batches": 20, "resume": 20})
    hangs, fails = "import time; time.sleep(60)", "raise SystemExit('no memory')"
    scripted(votes=hangs, noise=fails, batches=WRITES.format({"worst": 3}), resume=WRITES.format({"differing": 0}))
    said, started = [], time.monotonic()
    record = check.check(tmp_path, [], False, said.append)
    assert time.monotonic() - started < 40
    assert record["steps"]["votes"]["error"] == "not done after 1 s"
    assert record["steps"]["noise"]["error"] == "exit status 1" and "no memory" in record["steps"]["noise"]["output"]
    judged = {row["title"]: row["reached"] for row in record["goals"]}
    assert judged["votes that the batch size changes"] is False
    assert judged["blocks that differ after kill and resume"] is True
    assert judged["noise: distance of the kernel from eager torch"] is None
    assert [line.partition(":")[0] for line in said] == ["votes", "noise", "batches", "resume"]
    assert json.loads((tmp_path / "check.json").read_text()) == record
    assert (tmp_path / "check.png").stat().st_size < 1_000_000


def test_the_command_names_the_failed_step_and_judges_no_goal_on_a_cpu(cli, scripted, tmp_path):
    scripted(noise=WRITES.format({"farthest": 1.0}), votes="raise SystemExit(3)")
    done = cli("gpu", "check", "--only", "noise,votes", "--out", tmp_path)
    assert done.exit_code == FAILED and "votes: exit status 3" in done.output and "no goal applies" in done.output
    assert {row["reached"] for row in json.loads((tmp_path / "check.json").read_text())["goals"]} == {None}


def test_an_unknown_step_is_refused(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'votes'"):
        check.check(tmp_path, ["vote"], True, print)


def test_a_command_of_a_step_that_fails_is_quoted(tmp_path):
    run_command("list")
    with pytest.raises(RunError, match=r"bench summary .*nothing ended with \d.*nothing"):
        run_command("summary", str(tmp_path / "nothing"))
