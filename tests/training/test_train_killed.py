"""A training whose command is killed: no process of it goes on, and nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="process trees are read from /proc")
@pytest.mark.parametrize("sent", [pytest.param(signal.SIGTERM, marks=pytest.mark.slow), signal.SIGKILL])
def test_a_killed_training_leaves_no_worker_behind(tmp_path, sent):
    command = [sys.executable, "-m", "bench", "train", "--stages", "classifier", "--out", str(tmp_path), "--jobs", "1"]
    log = (tmp_path / "log").open("w")
    driver = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        deadline, workers = time.monotonic() + 120, []
        while not (tmp_path / "training/mnist5k/classifier.pt").is_file():  # after its first epoch
            assert time.monotonic() < deadline and driver.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.2)
        workers = children(driver.pid)
        assert workers
    finally:
        driver.send_signal(sent)
        driver.wait(30)
    deadline = time.monotonic() + 30
    while any(alive(pid) for pid in workers):
        assert time.monotonic() < deadline, "a worker goes on"
        time.sleep(0.1)
    assert (tmp_path / "training/mnist5k/classifier.pt").is_file()
