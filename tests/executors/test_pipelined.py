"""A GPU's executor: the next task begins before the counts of the last one are read, and each future has its own."""

import pickle
from contextlib import nullcontext
from multiprocessing import Pipe
from queue import SimpleQueue
from threading import Event

import pytest

from bench.executors import Pipelined
from bench.executors.processes import _work_on
from bench.store import read_run
from bench.sweep import preset
from bench.sweep import run as runs
from bench.sweep.scheduler import Observer


class Task(str):
    cell = type("C", (), {"label": "mine", "sigma": 0.5})


class Scripted:
    """An engine that writes down its calls. The task `bad` cannot begin, and `sad` cannot end."""

    def __init__(self):
        self.calls, self.go = [], Event()

    def begin(self, task):
        self.go.wait(10)
        self.calls.append(f"begin {task}")
        if task == "bad":
            raise ValueError(task)
        return lambda: self.finish(task)

    def finish(self, task):
        self.calls.append(f"finish {task}")
        if task == "sad":
            raise LookupError(task)
        return [task]

    def show(self, cell, images, draw):
        self.calls.append("show")
        return images


def submitted(*names):
    """An engine, and the futures of tasks that are all queued before the first one begins."""
    engine = Scripted()
    executor = Pipelined(engine)
    futures = [executor.show(Task.cell, [7]) if n == "show" else executor.submit(Task(n)) for n in names]
    engine.go.set()
    executor.close()
    return engine, futures


def test_a_task_begins_before_the_counts_of_the_last_one_are_read():
    engine, futures = submitted("a", "b", "c")
    assert [future.result(10) for future in futures] == [["a"], ["b"], ["c"]]
    assert engine.calls == ["begin a", "begin b", "finish a", "begin c", "finish b", "finish c"]


def test_a_task_that_fails_fails_alone():
    engine, (a, bad, sad, shown, b) = submitted("a", "bad", "sad", "show", "b")
    assert a.result(10) == ["a"] and b.result(10) == ["b"] and shown.result(10) == [7]
    with pytest.raises(ValueError, match="bad"):
        bad.result(10)
    with pytest.raises(LookupError, match="sad"):
        sad.result(10)
    assert engine.calls.index("finish sad") < engine.calls.index("show") < engine.calls.index("begin b")


class Unlike(Exception):
    """Cannot be made again from its message alone."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


def test_a_worker_process_of_a_gpu_does_the_same_and_names_its_errors():
    engine, tasks = Scripted(), SimpleQueue()
    engine.weigh = lambda cells: (_ for _ in ()).throw(Unlike("this", "that"))
    ours, theirs = Pipe(duplex=False)
    runs = [("run", (name,)) for name in ("a", "b", "sad")]
    jobs = [*runs, ("weigh", ([],)), (len_of, ("abc",)), (unsendable, ()), (leaving, ())]
    for number, job in enumerate(jobs):
        tasks.put(pickle.dumps((number, *job)))
    tasks.put(None)
    engine.go.set()
    _work_on(tasks, theirs, Pipelined(engine))
    found = {number: (done, pickle.loads(result)) for number, done, result in (ours.recv() for _ in jobs)}
    assert found[0] == (True, ["a"]) and found[1] == (True, ["b"]) and found[4] == (True, 3)
    assert engine.calls[:4] == ["begin a", "begin b", "finish a", "begin sad"]
    errors = {number: error for number, (done, error) in found.items() if not done}
    assert errors.keys() == {2, 3, 5, 6}
    assert type(errors[2]) is LookupError and "in finish" in errors[2].__notes__[0]
    assert type(errors[3]) is RuntimeError and str(errors[3]).endswith("Unlike: this and that")
    assert "pickle" in str(errors[5]) and "a plugin ended the process: SystemExit(3)" in str(errors[6])
    assert not ours.poll()


def len_of(engine, text):
    return len(text)


def unsendable(engine):
    return lambda: None


def leaving(engine):
    raise SystemExit(3)


def test_a_sweep_has_the_same_counts(tiny_preset, tmp_path, monkeypatch):
    path = str(tiny_preset(purifiers=["none", "onestep-edm", "ddpm:steps=2"], images=4, batch=17))
    found = []
    for executor in (runs.InProcess, lambda engine, timeout: Pipelined(engine)):
        monkeypatch.setattr(runs, "InProcess", executor)
        folder = tmp_path / str(len(found))
        loaded = preset.load_preset(path, {})
        assert not runs.run_sweep(loaded, folder, lambda *_: nullcontext(Observer()), lambda _: None)
        blocks = read_run(folder).blocks.assign(votes=lambda b: b["votes"].map(tuple))
        found.append(set(blocks[["cell", "image", "stage", "first", "votes"]].itertuples(index=False, name=None)))
    assert found[0] == found[1] and len(found[0]) == 3 * 4 * 3
