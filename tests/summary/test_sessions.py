"""The sessions in which a run was counted, and what the reader is told of them."""

import os
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from command import run as run_command

import purifybench as pb
from bench.executors.waiting import waiting_since
from bench.store.run import Run
from bench.summary.notes import _session_notes, _versions, untimed
from bench.sweep import run as sweep_run
from bench.sweep.session import with_sessions, without_latest


def test_what_changed_while_a_run_was_made_is_noted():
    """Counts of several library versions, and times of processes that shared a GPU."""
    facts = {**dict.fromkeys(("started", "purifybench", "git", "python", "platform"), "same"), "pixels": {}}
    first = with_sessions({**facts, "libraries": {"torch": "2.11"}, "devices": ["cpu"]}, {}, 0)
    second = with_sessions(
        {**facts, "libraries": {"torch": "2.12"}, "devices": ["cuda:0", "cuda:0", "cuda:1"]}, first, 9
    )
    assert [session["libraries"]["torch"] for session in second["sessions"]] == ["2.11", "2.12"]
    empty = pd.DataFrame()
    assert not _session_notes(Run(Path("run"), first, {}, {}, empty, empty))
    versions, shared = _session_notes(Run(Path("run"), second, {}, {}, empty, empty))
    assert versions == "run: counted in parts with torch 2.11 and 2.12"
    assert "up to 2 processes shared a GPU" in shared


def test_a_part_of_a_run_that_counted_nothing_is_no_part_of_it():
    """A finished run that is repeated with a new torch holds no count of it."""
    facts = {**dict.fromkeys(("started", "purifybench", "git", "python", "platform", "devices"), "same"), "pixels": {}}
    old, new = ({**facts, "libraries": {"torch": version}} for version in ("2.11", "2.12"))
    first = with_sessions(old, {}, 0)
    repeated = without_latest(with_sessions(new, first, 50))
    assert repeated["libraries"] == {"torch": "2.11"} and repeated["sessions"] == first["sessions"]
    killed_at_once = with_sessions(new, first, 50)
    third = with_sessions(new, killed_at_once, 50)
    assert [part["libraries"]["torch"] for part in third["sessions"]] == ["2.11", "2.12"]
    assert without_latest(with_sessions(new, {}, 0))["libraries"] == {"torch": "2.12"}  # all of it failed


def test_runs_of_other_library_versions_say_so_side_by_side():
    parts = [{"libraries": {"torch": "2.11", "numpy": "2.0"}}, {"libraries": {"torch": "2.12", "timm": "1.0"}}, {}]
    assert _versions(parts) == "torch 2.11 and 2.12"
    assert _versions(parts[:1] * 2) == ""


@pytest.mark.parametrize(
    ("devices", "waited", "why"),
    [
        ("cpu", (0.32, 0.02), "for 32% of a session of its time mine waited for processors that other programs used"),
        ("cpu", (0.01, 0.02), ""),
        ("cpu", (0.01, None), "mine was counted in 2 sessions, whose loads are not known"),
        ("cpu", (None,), ""),
        ("cuda:0", (0.32, None), ""),
    ],
)
def test_milliseconds_that_hold_the_load_of_other_programs_do_not_compare(devices, waited, why):
    sessions = [{"devices": [devices], "waited": share} for share in waited]
    run = Run(Path("run"), {"sessions": sessions}, {}, {}, pd.DataFrame(), pd.DataFrame())
    assert untimed({"mine": run}, pd.DataFrame()) == why


def test_a_run_that_records_no_sessions_has_no_remark_about_its_load():
    run = Run(Path("run"), {}, {}, {}, pd.DataFrame(), pd.DataFrame())
    assert untimed({"mine": run}, pd.DataFrame()) == ""


def test_a_session_that_counted_little_does_not_decide_whether_milliseconds_compare():
    blocks = pd.DataFrame({"cell": ["a"] * 100})
    sessions = [{"devices": ["cpu"], "waited": 0.01, "blocks": 0}, {"devices": ["cpu"], "blocks": 95}]
    assert untimed({"mine": Run(Path("run"), {"sessions": sessions}, {}, {}, blocks, blocks)}, pd.DataFrame()) == ""
    killed = [{"devices": ["cpu"], "blocks": 0}, {"devices": ["cpu"], "waited": 0.01, "blocks": 95}]
    found = untimed({"mine": Run(Path("run"), {"sessions": killed}, {}, {}, blocks, blocks)}, pd.DataFrame())
    assert "stopped before it recorded the load" in found
    sessions[1]["blocks"] = 60
    assert untimed({"mine": Run(Path("run"), {"sessions": sessions}, {}, {}, blocks, blocks)}, pd.DataFrame())


def write_times(proc, **threads):
    for thread, times in threads.items():
        folder = proc / str(os.getpid()) / "task" / thread
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "schedstat").write_text(times)


def test_waiting_is_a_share_of_the_time_since_the_beginning(tmp_path):
    write_times(tmp_path, main="1000 500 3\n", ended="70 70 1\n")
    share, of_long_runs = waiting_since(tmp_path, least=0), waiting_since(tmp_path)
    assert share() is None  # no time has passed
    write_times(tmp_path, main="1200 550 4\n", late="100 50 1\n")
    (tmp_path / str(os.getpid()) / "task" / "ended" / "schedstat").unlink()
    assert share() == 100 / 400
    assert of_long_runs() is None
    assert waiting_since(tmp_path / "nowhere", least=0)() is None


def test_a_run_records_how_long_it_waited(cli, tiny_preset, tmp_path, monkeypatch):
    if not Path("/proc/self/task").is_dir():
        pytest.skip("this kernel has no /proc/PID/schedstat")
    monkeypatch.setattr(sweep_run, "waiting_since", partial(waiting_since, least=0))
    assert run_command(cli, tiny_preset(), "--workers", 2, "--out", tmp_path / "run").exit_code == 0
    (session,) = pb.load(tmp_path / "run").stored.manifest["sessions"]
    assert 0 < session["waited"] < 1
