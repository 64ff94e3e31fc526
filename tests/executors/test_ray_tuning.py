"""On a Ray cluster one worker measures what `auto` is; its answer makes the cells that local runs would have.

Who is asked, and what becomes of it, is tested on a cluster that is made up; what is answered on one of this machine.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_ray_cluster import CELLS, FakeRay, made_up
from test_ray_workers import counts_of

from bench.engine.engine import LoadError
from bench.engine.tuning import cache as speed_cache
from bench.engine.tuning.tune import AUTO, TuningRequest
from bench.executors.ray_cluster import MAX_DEATHS, WorkerDied
from bench.executors.ray_worker import WorkerMismatch
from bench.store.run import read_run

ASKED = {
    "precision": AUTO,
    "channels_last": False,
    "compile": "no",
    "rows": 0,
    "batch": 500,
    "classifier": None,
}
QUESTION = TuningRequest(ASKED, CELLS, np.zeros((2, 1, 2, 2), np.float32))
FOUND = {"device": "a device", "chosen": {"precision": "bf16"}, "batch": 500}


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    """What the driver keeps."""
    monkeypatch.setenv(speed_cache._FOLDER, str(tmp_path / "kept"))


class Asked(FakeRay):
    """A cluster whose workers answer a question with `found`; `asked` has how many workers there were as it came."""

    def __init__(self, found=FOUND, device="a device", dies=lambda method, arguments, rng: False):
        super().__init__(0, dies)
        self.found, self.device, self.asked = found, device, []

    def answer(self, method, arguments):
        if method == "prepare":
            return self.device
        self.asked.append(self.born - self.dead)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def test_one_worker_measures_alone_and_the_others_start_afterwards():
    ray, said = Asked(), []
    with made_up(ray, notify=said.append, start=False) as executor:
        assert ray.born == 0
        assert executor.measure(QUESTION) == FOUND
        assert ray.asked == [1] and said == [
            "one worker measures how these networks compute fastest on its device; it is kept for later runs"
        ]
        executor.start()
        assert ray.born == 3


def test_what_was_measured_is_kept_by_the_driver_for_the_next_machine_with_such_a_device():
    with made_up(Asked(), start=False) as executor:
        executor.measure(QUESTION)
    same, other = Asked({**FOUND, "batch": 7}), Asked({**FOUND, "batch": 7}, device="another device")
    with made_up(same, start=False) as executor:
        assert executor.measure(QUESTION) == FOUND and not same.asked
    with made_up(other, start=False) as executor:
        assert executor.measure(QUESTION) == other.found and other.asked


def test_a_worker_that_dies_while_it_measures_is_replaced_and_three_of_them_end_the_run():
    left = [1]
    ray = Asked(dies=lambda method, arguments, rng: method == "measure" and bool(left) and bool(left.pop()))
    with made_up(ray, start=False) as executor:
        assert executor.measure(QUESTION) == FOUND and ray.dead == 1
    other = TuningRequest({**ASKED, "batch": AUTO}, CELLS, QUESTION.images)
    ray = Asked(dies=lambda method, arguments, rng: method == "measure")
    with (
        made_up(ray, start=False) as executor,
        pytest.raises(WorkerDied, match=r"^measuring killed 3 workers one after another, .* the actor died"),
    ):
        executor.measure(other)
    assert ray.dead == MAX_DEATHS


@pytest.mark.parametrize("mismatches", [1, 3])
def test_all_other_machines_are_tried_if_the_measuring_one_has_other_versions(mismatches):
    ray, left, said = Asked(), list(range(mismatches)), []

    def answer(method, arguments):
        if method == "prepare" and left:
            left.pop()
            raise WorkerMismatch("the machine far has torch 1")
        return Asked.answer(ray, method, arguments)

    ray.answer = answer
    with made_up(ray, notify=said.append, start=False) as executor:
        if mismatches == 3:
            with pytest.raises(WorkerMismatch, match=r"^the machine far has torch 1$"):
                executor.measure(QUESTION)
        else:
            assert executor.measure(QUESTION) == FOUND
            assert said[0] == "a worker is left out: the machine far has torch 1" and ray.born == 3


def test_what_cannot_be_loaded_there_is_told_as_it_was_and_what_never_ends_is_ended():
    with (
        made_up(Asked(LoadError("the machine far: network 'edm'")), start=False) as executor,
        pytest.raises(LoadError, match=r"^the machine far: network 'edm'$"),
    ):
        executor.measure(QUESTION)
    ray = Asked()
    with made_up(ray, patience=0.3, start=False) as executor:
        executor.start(1)
        ray.step = lambda: None
        with pytest.raises(RuntimeError, match=r"measured for 0\.3 s and did not end; leave nothing to `auto`, or"):
            executor.measure(QUESTION)


@pytest.mark.slow
def test_auto_on_a_cluster_gives_the_cells_the_record_and_the_counts_of_auto_on_one_machine(
    address, cli, tiny_preset, tiny_zoo, tmp_path
):
    """The worker measures, and keeps it on its machine; the driver keeps it too, where the local run finds it."""
    classifier = {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors"), "precision": AUTO}
    open_ = {"precision": AUTO, "channels_last": AUTO, "batch": AUTO, "classifier": classifier}
    path = tiny_preset(purifiers=["none", "onestep-edm", "ddpm:steps=2"], **open_)
    on_ray = ("--executor", "ray", "--address", address, "--workers", "2")
    first = cli("run", path, "--no-plots", "--out", tmp_path / "ray", *on_ray)
    assert first.exit_code == 0 and "one worker measures" in first.output
    second = cli("run", path, "--no-plots", "--out", tmp_path / "local")
    assert second.exit_code == 0 and "measuring" not in second.output
    ray, local = read_run(tmp_path / "ray").manifest, read_run(tmp_path / "local").manifest
    tuning = ray["tuning"]
    assert tuning["asked"]["precision"] == tuning["asked"]["batch"] == tuning["asked"]["classifier"] == AUTO
    assert "thread" in tuning["device"] and tuning["chosen"]["precision"] in ("fp32", "bf16") and tuning["rates"]
    assert json.dumps(tuning, sort_keys=True) == json.dumps(local["tuning"], sort_keys=True)
    assert ray["sweep"] == local["sweep"]
    assert counts_of(tmp_path / "ray") == counts_of(tmp_path / "local")
