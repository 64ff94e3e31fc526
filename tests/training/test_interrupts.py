"""Ctrl-C in a training: its state is kept at any step, and the same command goes on from there."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time

import pytest
from conftest import ROOT
from own_images import draw_shapes

from bench.errors import TimeOver
from bench.training import interrupts

INTERRUPTED = 130


def steps(text):
    return [int(number.replace(",", "")) for number in re.findall(r"step ([\d,]+), loss", text)]


@pytest.fixture
def worker(monkeypatch):
    """The state of a worker that no interrupt has reached."""
    for name in ("_requested", "_training", "_stepping"):
        monkeypatch.setattr(interrupts, name, False)


def train(*events):
    """A stage of a worker in which these things happen; those that happened."""
    happened = []
    with interrupts.stage_of_worker("cm") as stop:
        for event in events:
            happened.append((event, stop() if event == "step" else getattr(interrupts, event)()))
            if event == "step" and happened[-1][1]:
                raise TimeOver("cm is paused, and continues from its checkpoint")
    return happened


@pytest.mark.parametrize(
    ("events", "said"),
    [
        (("_stop", "step"), "stopped between its steps"),  # while paths are followed, for example
        (("step", "_stop", "step"), "continues from its checkpoint"),  # the step under way is finished
        (("step", "_stop", "end_of_steps"), "stopped between its steps"),
        (("step", "end_of_steps", "_stop"), "stopped between its steps"),  # in the validation
    ],
)
def test_an_interrupt_waits_for_the_end_of_a_step_and_for_nothing_else(worker, events, said):
    with pytest.raises(TimeOver, match=said):
        train(*events, "step", "step")
    with pytest.raises(TimeOver, match="between its steps"):  # nor does another stage begin
        train()


def test_a_stage_that_nothing_interrupts_ends(worker):
    assert train("step", "step", "end_of_steps") == [("step", False), ("step", False), ("end_of_steps", None)]


def test_between_stages_an_interrupt_ends_no_worker(worker):
    interrupts._stop()
    assert interrupts._requested


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to a process")
def test_ctrl_c_keeps_the_states_says_how_to_go_on_and_the_same_command_continues(tmp_path):
    draw_shapes(tmp_path / "shapes" / "train", 40, 16)
    draw_shapes(tmp_path / "shapes" / "test", 2, 16, seed=1)
    command = [sys.executable, "-m", "bench", "train", "--dataset", "folder", "--data", "shapes", "--jobs", "2"]
    command += ["--stages", "classifier"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    files = {name: tmp_path / f"{name}.log" for name in ("first", "second")}

    def start(name, *options):
        log = files[name].open("w")
        return subprocess.Popen([*command, *options], cwd=tmp_path, env=environment, stdout=log, stderr=log)

    def wait_for(process, name, text):
        deadline = time.monotonic() + 200
        while text not in files[name].read_text():
            assert process.poll() is None and time.monotonic() < deadline, files[name].read_text()
            time.sleep(0.05)

    driver = start("first", "--scale", "20")  # far more than the test needs
    wait_for(driver, "first", "loss")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(100) == INTERRUPTED
    said = files["first"].read_text()
    work = tmp_path / "results/zoos/shapes/training/folder"
    assert "stopping: every training ends its step and saves its state" in said and "Traceback" not in said
    assert "interrupted; not done: classifier. Their states are saved in" in said
    assert "the same command continues" in said and (work / "classifier.pt").is_file()
    assert not list((tmp_path / "results").rglob("*.safetensors"))  # what is not done is no result
    step = steps(said)[-1]

    driver = start("second", "--scale", "20")
    wait_for(driver, "second", "loss")
    assert steps(files["second"].read_text())[0] > step  # it goes on, and does not begin again
    driver.send_signal(signal.SIGINT)
    assert driver.wait(100) == INTERRUPTED
