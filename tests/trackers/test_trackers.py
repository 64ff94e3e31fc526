"""Callbacks see every block, cell and figure of a run, and neither they nor a tracker can harm its counts."""

from __future__ import annotations

import re
import sys
import textwrap
from threading import Event

import pytest
from command import counts_of
from report_runs import make_run

import purifybench as pb
from bench.api.runs import run_into
from bench.errors import InputError, RunError, TimeOver
from bench.summary import summarise
from bench.sweep import load_preset
from bench.trackers import tracker
from bench.trackers.background import Background
from bench.trackers.metrics import Progress, batched, figures_of

EVENTS = ("on_block", "on_cell", "on_end")


class Recorder(pb.Callback):
    def __init__(self):
        self.blocks, self.cells, self.ends = [], [], []

    def on_block(self, cell, counts):
        assert counts.block.cell == cell.key
        self.blocks.append(counts)

    def on_cell(self, cell, error):
        self.cells.append((cell.key, error))

    def on_end(self, summary):
        self.ends.append(summary)


def failing(event, error=RuntimeError):
    def fail(*_):
        raise error("no\nroute to the server")

    return type("Failing", (pb.Callback,), {"name": "mine", event: fail})()


@pytest.fixture
def counted(tiny_preset, tmp_path):
    """The preset, its folder, and what a callback saw of its run."""
    preset, seen = tiny_preset(), Recorder()
    run = pb.run(preset, tmp_path / "plain", callbacks=[seen])
    return preset, run, seen


def test_a_callback_sees_every_stored_block_every_cell_and_the_figures(counted):
    _, run, seen = counted
    stored = counts_of(run.folder)
    told = {(c.block.cell, c.block.image, c.block.stage, c.block.first): c.votes for c in seen.blocks}
    assert told == stored and len(seen.blocks) == len(stored)
    assert sorted(seen.cells) == sorted((key, None) for key in run.stored.cells)
    (summary,) = seen.ends
    assert summary.table.equals(run.table)


def test_a_run_that_continues_tells_what_is_new(counted):
    preset, run, _ = counted
    again = Recorder()
    pb.run(preset, run.folder, callbacks=[again])
    assert not again.blocks and len(again.cells) == len(run.stored.cells) and len(again.ends) == 1


@pytest.mark.parametrize("event", EVENTS)
def test_a_callback_that_fails_is_told_once_and_harms_neither_counts_nor_others(counted, tmp_path, event):
    preset, run, seen = counted
    other, said = Recorder(), []
    chosen = load_preset(str(preset), {})
    run_into(tmp_path / event, chosen, notify=said.append, callbacks=[failing(event), other])
    assert counts_of(tmp_path / event) == counts_of(run.folder)
    assert [len(x) for x in (other.blocks, other.cells, other.ends)] == [len(seen.blocks), len(seen.cells), 1]
    told = [line for line in said if "mine" in line]
    assert told == ["mine failed (RuntimeError: no) and is not called again; the run goes on"]


def test_in_python_a_callback_that_fails_warns_and_a_stranger_is_refused(tiny_preset, tmp_path):
    with pytest.warns(UserWarning, match=r"mine failed \(RuntimeError: no.* and is not called again; the run goes on"):
        pb.run(tiny_preset(), tmp_path / "out", callbacks=[failing("on_block")])
    for stranger in (Recorder, 3):
        with pytest.raises(InputError, match=r"derived from pb\.Callback, got"):
            pb.run(tiny_preset(), tmp_path / "other", callbacks=[stranger])
    assert not (tmp_path / "other").exists()


def test_an_interrupt_inside_a_callback_is_no_failure_of_it(tiny_preset, tmp_path):
    other = Recorder()
    with pytest.raises(KeyboardInterrupt):
        pb.run(tiny_preset(), tmp_path / "run", callbacks=[failing("on_cell", KeyboardInterrupt), other])
    assert other.ends == [None]


def test_a_run_out_of_time_ends_without_figures(tiny_preset, tmp_path):
    seen = Recorder()
    with pytest.raises(TimeOver):
        run_into(tmp_path / "run", load_preset(str(tiny_preset()), {}), minutes=0, callbacks=[seen])
    assert seen.ends == [None]


def test_a_failed_cell_is_told_with_its_error(tiny_preset, tmp_path, purifier_file):
    seen = Recorder()
    broken = purifier_file("raise ValueError('broken on purpose')")
    pb.run(tiny_preset(purifiers=["none", str(broken)]), tmp_path / "run", callbacks=[seen])
    assert [error is None for _, error in seen.cells].count(False) == 1
    assert any(error and "broken on purpose" in error for _, error in seen.cells)


FAKES = {  # module -> the part of its interface that is used, as its documentation describes it
    "mlflow": """
        calls = []
        def set_experiment(experiment_name): calls.append(("experiment", experiment_name))
        def start_run(run_name=None): calls.append(("start", run_name))
        def log_params(params): calls.append(("params", params))
        def log_metrics(metrics, step=None): calls.append(("log", metrics, step))
        def end_run(status="FINISHED"): calls.append(("end", status))
    """,
    "wandb": """
        calls = []
        class Run:
            def log(self, data, step=None): calls.append(("log", data, step))
            def finish(self): calls.append(("end", None))
        def init(project=None, name=None, config=None):
            calls.extend([("experiment", project), ("start", name), ("params", config)])
            return Run()
    """,
}
FAKES["trackio"] = FAKES["wandb"]


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A factory of modules that stand for a tracker's library."""

    def write(name: str, text: str | None = None):
        (tmp_path / "fakes").mkdir(exist_ok=True)
        (tmp_path / "fakes" / f"{name}.py").write_text(textwrap.dedent(text or FAKES[name]))
        monkeypatch.syspath_prepend(tmp_path / "fakes")
        monkeypatch.delitem(sys.modules, name, raising=False)

    yield write
    for name in FAKES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", FAKES)
def test_a_tracker_gets_the_preset_the_progress_and_every_figure(tiny_preset, tmp_path, fake, name):
    fake(name)
    run = pb.run(tiny_preset(), tmp_path / "my run", track=name)
    calls = sys.modules[name].calls
    assert calls[:2] == [("experiment", "purifybench"), ("start", "my run")] and calls[-1][0] == "end"
    assert float(calls[2][1]["alpha"]) == run.stored.manifest["preset"]["alpha"]
    logged = {key: value for what, *rest in calls if what == "log" for key, value in rest[0].items()}
    assert logged["progress/draws"] == run.stored.blocks["draws"].sum()
    assert logged["progress/cells"] == len(run.table) and logged["progress/failed"] == 0
    for row in run.table.to_dict("records"):
        for column in ("acc@0.0" if "acc@0.0" in row else next(c for c in row if c.startswith("acc@")), "acr", "nfe"):
            assert logged[f"sigma {row['sigma']:g}/{row['name']}/{column.replace('@', '_')}"] == row[column]
    steps = [rest[1] for what, *rest in calls if what == "log" and rest[1] is not None]
    assert steps == sorted(steps)


def test_mlflow_gets_names_that_it_takes_and_the_status(fake, tmp_path):
    fake("mlflow")
    odd = {"odd (name)=%\u202e": ("other", 1, 0.1, 0.9), "odd [name]": ("other", 1, 0.1, 0.9)}
    told = tracker("mlflow", "r", {"note": "x" * 10_000})
    told.on_end(summarise([make_run(tmp_path / "run", odd, sigmas=(0.5,))]))
    calls = sys.modules["mlflow"].calls
    names = [key for what, *rest in calls if what == "log" for key in rest[0]]
    assert names and all(re.fullmatch(r"[\w./ -]{1,250}", name, re.ASCII) for name in names)
    assert all(len(value) <= 500 for value in calls[2][1].values())
    assert calls[-1] == ("end", "FINISHED")
    tracker("mlflow", "r", {}).on_end(None)
    assert calls[-1] == ("end", "KILLED")


def test_figures_of_equal_names_stay_apart_and_large_summaries_go_in_parts(tmp_path):
    odd = {f"p{sign}": ("other", 1, 0.1, 0.9) for sign in "()=%"}
    summary = summarise([make_run(tmp_path / "run", odd, sigmas=(0.5,))])
    names = [name for name, _ in figures_of(summary)]
    assert len(set(names)) == len(names) and len({name.split("/")[1] for name in names}) == 4
    parts = list(batched((str(i), 0.0) for i in range(1201)))
    assert [len(part) for part in parts] == [500, 500, 201]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("raise OSError('no server')", "no server"),
        (FAKES["mlflow"].replace('calls.append(("start", run_name))', "raise OSError('no server')"), "no server"),
        (FAKES["mlflow"].replace('calls.append(("log", metrics, step))', "raise OSError('refused')"), "refused"),
        (FAKES["mlflow"].replace('calls.append(("end", status))', "raise OSError('at the end')"), "at the end"),
    ],
    ids=["import", "start", "log", "end"],
)
def test_a_tracker_that_fails_at_any_time_is_told_once_and_the_counts_are_the_same(
    counted, tmp_path, fake, cli, text, word
):
    preset, run, _ = counted
    fake("mlflow", text)
    done = cli("run", preset, "--no-plots", "--track", "mlflow", "--out", tmp_path / "tracked")
    assert done.exit_code == 0, done.output
    told = [line for line in done.output.splitlines() if "is not called again" in line]
    assert len(told) == 1 and told[0].startswith("mlflow failed") and word in told[0]
    assert counts_of(tmp_path / "tracked") == counts_of(run.folder)


def test_a_tracker_that_never_answers_does_not_keep_the_run_waiting():
    wait = Event()

    class Stuck:
        def log(self, metrics, step):
            wait.wait()

        def finish(self, ended): ...

    sink = Background(Stuck, "stuck", patience=0.05)
    progress = Progress(sink, "stuck")
    with pytest.raises(RunError, match="stuck did not take the last figures"):
        progress.on_end(None)
    wait.set()


@pytest.mark.parametrize("name", FAKES)
def test_a_library_that_is_missing_is_named_before_anything_is_counted(cli, tiny_preset, tmp_path, monkeypatch, name):
    monkeypatch.setattr("bench.trackers.metrics.find_spec", lambda name: None)
    done = cli("run", tiny_preset(), "--track", name, "--out", tmp_path / "run")
    assert done.exit_code == 2 and f"pip install {name}" in done.stderr and not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_refused_with_those_that_there_are():
    with pytest.raises(InputError, match="mlflow, wandb, trackio"):
        tracker("tensorboard", "r", {})
