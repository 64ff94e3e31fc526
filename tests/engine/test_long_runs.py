"""What happens to a run in its course: its disk fills up and is made larger, and its memory stays what it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from bench.store.run import read_run

ENV = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "400"}
MEMORY = """
import sys
from bench.__main__ import app
from bench.store import Store

add, resident = Store.add, []

def watched(store, counts):
    add(store, counts)
    with open("/proc/self/status") as status:
        resident.append(int(status.read().partition("VmRSS:")[2].split()[0]))

Store.add = watched
try:
    app(sys.argv[1:])
finally:
    print("resident", resident)
"""


def mounts() -> bool:
    """Whether this process may mount in a namespace of its own."""
    return (
        bool(shutil.which("unshare"))
        and not subprocess.run(
            ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True
        ).returncode
    )


def counted(folder: Path) -> list[tuple]:
    blocks = read_run(folder).blocks.sort_values(["cell", "image", "stage", "first"])
    return [(*row, tuple(v)) for *row, v in blocks[["cell", "image", "stage", "first", "votes"]].values.tolist()]


@pytest.mark.slow
def test_a_run_whose_disk_fills_up_goes_on_when_there_is_room(cli, tiny_preset, tmp_path: Path) -> None:
    if not mounts():
        pytest.skip("needs root and unshare, to mount a small disk")
    path, small = tiny_preset(purifiers=["none"], images=40, n=1000, batch=500), tmp_path / "small"
    small.mkdir()
    run = f"{sys.executable} -m bench run {path} --no-plots --out {small}/run"
    script = (
        f"mount -t tmpfs -o size=500k none {small}; {run} >&2; echo $?; mount -o remount,size=50m {small}; "
        f"echo ENLARGED >&2; {run} >&2; echo $?; cp -r {small}/run {tmp_path}/kept"
    )
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script], env=ENV, cwd=ROOT, capture_output=True, text=True, timeout=600
    )
    full = done.stderr.partition("ENLARGED")[0]
    assert done.stdout.split() == ["2", "0"], done.stderr
    assert "make room, and the same command continues" in full and "Traceback" not in done.stderr
    assert cli("run", path, "--no-plots", "--out", tmp_path / "undisturbed").exit_code == 0
    assert counted(tmp_path / "kept") == counted(tmp_path / "undisturbed")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="there is no /proc here")
def test_a_run_takes_no_more_memory_at_its_end_than_in_its_first_third(tiny_preset, tmp_path: Path) -> None:
    path = tiny_preset(purifiers=["onestep-edm"], images=30, n=1000, batch=100)
    arguments = ["run", path, "--no-plots", "--out", tmp_path / "run"]
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, *map(str, arguments)], env=ENV, cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    resident = json.loads(done.stdout.partition("\nresident ")[2])  # KiB after every batch
    assert len(resident) >= 300
    assert max(resident[-10:]) - resident[len(resident) // 3] < 16 * 1024, resident[::20]
