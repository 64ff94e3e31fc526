"""`bench gpu zoo` on a CPU: its shares of the time, and a zoo of digits in several commands, by a clock of the test."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
from types import SimpleNamespace

import pytest
import torch
from command import OK, refused
from conftest import ROOT
from short_training import shorten

from bench.cli import gpu as gpu_commands
from bench.gpu import zoo as zoo_module
from bench.gpu.archive import unpack
from bench.gpu.zoo import SHARES, TIMED, seconds_of
from bench.sweep import stop as stop_module
from bench.training import checkpoint
from bench.training.jobs import Job, for_job, read_recipe
from purifiers.nets.hub.cards import BUNDLED, read_card

FAILED, TIME_OVER, INTERRUPTED = 1, 75, 130
COMPARED = ("cm-ft", "edm-ft", "edm-cal")


@pytest.fixture
def trial(cli, tmp_path, monkeypatch):
    """`bench gpu zoo` on few digits. Its clock goes on by one second whenever somebody looks at it."""
    clock = SimpleNamespace(monotonic=itertools.count().__next__)
    for module in (zoo_module, checkpoint, stop_module, gpu_commands):
        monkeypatch.setattr(module, "time", clock)
    shorten(monkeypatch, 20, batch=None)  # `--batch` sets it here

    def run(minutes, *arguments, stages="edm,cm,cm-ft,edm-ft,edm-cal,classifier-ft", archive="archive"):
        options = ["--dataset", "mnist5k", "--stages", stages, "--scale", 0.004, "--loss", "features", "--batch", 8]
        folders = ["--out", tmp_path / "work", "--archive", tmp_path / archive]
        return cli("gpu", "zoo", "--minutes", minutes, *options, *folders, "--device", "cpu", *arguments)

    yield run
    torch.set_flush_denormal(False)


def test_a_zoo_is_trained_in_several_commands_on_machines_that_come_and_go(trial, tmp_path):
    """The first command ends in the first stage; the second begins on another machine, with the archive alone."""
    first = trial(4, "--unchecked", "--pause", 0.4)
    assert first.exit_code == TIME_OVER, first.output
    assert "paused in edm; not done: edm, cm, cm-ft, edm-ft, edm-cal, classifier-ft" in first.output
    shutil.rmtree(tmp_path / "work")
    assert unpack(tmp_path / "archive", "zoo", tmp_path / "look")
    assert (tmp_path / "look/training/mnist5k/edm.pt").is_file()
    assert not list((tmp_path / "look").rglob("purifiers/**/*.safetensors"))  # what is not done is no result
    before = json.loads((tmp_path / "look/zoo.json").read_text())["edm"]
    assert before["seconds"] > 0 and not before["done"]

    second = trial(4, "--unchecked")
    assert second.exit_code == OK, second.output
    assert "continues from" in second.output
    job = Job("mnist5k", out=str(tmp_path / "work"))
    state = json.loads((tmp_path / "work/zoo.json").read_text())
    for name in ("edm", "cm", *COMPARED, "classifier-ft"):
        assert job.path(name).is_file() and state[name]["done"], name
    assert state["edm"]["seconds"] > before["seconds"]
    assert not state["ddpm"]["done"]  # it was not asked for
    cards = {name: read_card(job.path(name)).training for name in ("edm", "cm", *COMPARED)}
    bundled = read_card(BUNDLED / "mnist5k" / "edm.safetensors")
    assert cards["edm"]["continues"] == bundled.sha256
    assert cards["edm"]["images_seen"] > bundled.training["images_seen"]
    assert len({cards[name]["images_seen"] for name in COMPARED}) == 1
    assert {cards[name]["recipe"]["batch"] for name in COMPARED} == {64}  # --batch is for timed stages
    assert cards["cm"]["recipe"]["batch"] == 8 and cards["cm"]["progress"] == 1
    work = job.work()
    assert {path.suffix for path in work.iterdir()} == {".csv", ".png"}  # no checkpoint is left
    assert unpack(tmp_path / "archive", "zoo", tmp_path / "returned")
    names = {path.name for path in (tmp_path / "returned").rglob("*")}
    assert {"edm.safetensors", "edm.json", "classifier-ft.json", "edm.csv", "curves.png", "zoo.json"} <= names
    assert all(path.stat().st_size < 16 * 2**20 for path in (tmp_path / "archive").iterdir())

    again = trial(4, "--unchecked")
    assert again.exit_code == OK and "edm-cal: done before" in again.output


def test_stages_that_are_compared_wait_for_more_minutes_rather_than_end_early(trial, tmp_path):
    for _ in range(2):
        result = trial(0.05, stages="edm-ft")
        assert result.exit_code == TIME_OVER, result.output
        assert "The same command with more --minutes continues" in result.output
    job = Job("mnist5k", out=str(tmp_path / "work"))
    assert not job.path("edm-ft").exists()
    assert trial(1, stages="edm-ft").exit_code == OK
    card = read_card(job.path("edm-ft")).training
    assert card["images_seen"] == card["recipe"]["steps"] * card["recipe"]["batch"]


def test_ctrl_c_pauses_and_the_archive_is_written(trial, tmp_path, monkeypatch):
    train = zoo_module.train_one

    def interrupted(*arguments):
        os.kill(os.getpid(), signal.SIGINT)
        return train(*arguments)

    monkeypatch.setattr(zoo_module, "train_one", interrupted)
    result = trial(30, stages="edm")
    assert result.exit_code == INTERRUPTED, result.output
    assert "stopping: the step is finished" in result.output and "paused in edm" in result.output
    assert (tmp_path / "archive/zoo.sha256").is_file()


def test_a_consistency_model_that_is_refused_is_not_fine_tuned(trial, tmp_path):
    result = trial(2, stages="cm,cm-ft,edm-ft")
    assert result.exit_code == FAILED, result.output
    assert "cm was trained, but is not a consistency model" in result.output
    assert "cm-ft: not trained, because it needs cm" in result.output
    job = Job("mnist5k", out=str(tmp_path / "work"))
    assert job.path("edm-ft").is_file() and not job.path("cm-ft").exists() and not job.path("cm").exists()
    again = trial(2, stages="cm,cm-ft,edm-ft")
    assert again.exit_code == FAILED and "cm was trained, but" in again.output
    assert trial(0.5, "--fresh", "--unchecked", stages="cm").exit_code == OK


def test_an_unknown_stage_is_refused_with_the_list(trial):
    assert "cm-ft" in refused(trial(1, stages="cm-tf"))


def test_without_a_gpu_the_command_says_that_it_computes_on_the_cpu(trial, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "there is no GPU here" in trial(0, "--device", "auto", stages="edm").stderr
    assert "torch finds no GPU here" in refused(trial(0, "--device", "cuda", stages="edm"))


def test_finished_stages_leave_their_time_to_the_others():
    spent = dict.fromkeys(SHARES, 0.0)
    everything = list(SHARES)
    assert sum(SHARES.values()) == pytest.approx(1)
    assert seconds_of("edm", everything, spent, set(), 600) == pytest.approx(600 * SHARES["edm"])
    spent["edm"] = 100  # a part of its share: the rest of it is left
    assert seconds_of("edm", everything, spent, set(), 500) == pytest.approx(600 * SHARES["edm"] - 100)
    rest = 1 - SHARES["edm"]
    assert seconds_of("ddpm", everything, spent, {"edm"}, 500) == pytest.approx(500 * SHARES["ddpm"] / rest)
    spent["ddpm"] = 1000
    assert seconds_of("ddpm", everything, spent, {"edm"}, 1) == 0  # never negative, and never more than is left
    assert seconds_of("cm", ["cm"], dict.fromkeys(SHARES, 0.0), set(), 7) == 7


def test_another_batch_keeps_the_images_of_a_schedule():
    plain, large = (for_job(read_recipe("purifiers", "cifar10"), job, "edm")["edm"] for job in jobs(batch=512))
    k = 512 / plain["batch"]
    for name in ("steps", "warmup", "plateau"):
        assert large[name] * large["batch"] == plain[name] * plain["batch"], name
    assert large["lr"] == pytest.approx(plain["lr"] * k**0.5)
    assert large["ema"] ** (1 / k) == pytest.approx(plain["ema"])
    changed = {name for name in plain if plain[name] != large[name]}
    assert changed == {"steps", "warmup", "plateau", "lr", "ema", "batch"}


def jobs(**options):
    return Job("cifar10"), Job("cifar10", **options)


def test_a_recipe_is_as_it_is_without_another_batch():
    recipe = read_recipe("purifiers", "cifar10")
    assert for_job(read_recipe("purifiers", "cifar10"), Job("cifar10"), "cm") == recipe


def test_the_documented_shares_are_those_of_the_code():
    page = (ROOT / "docs" / "gpu.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (\d+) % \| ([\w' ]+) \|", page, re.M)
    assert {name: int(share) / 100 for name, share, _ in rows} == SHARES
    assert tuple(name for name, _, end in rows if end == "its time") == TIMED
