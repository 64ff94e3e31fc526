"""The Python code in the README runs as it is printed."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_scripts_are_as_short_as_they_say():
    reading, certifying = BLOCKS
    assert len(reading.strip().splitlines()) <= 9 and len(certifying.strip().splitlines()) <= 11


def test_the_script_that_reads_the_reference_run(monkeypatch, tmp_path, capsys):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "embedded").symlink_to(ROOT / "results" / "embedded")
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    exec(BLOCKS[0], scope)
    told = capsys.readouterr().out
    assert "onestep-edm" in told and "Use " in told
    gained = (scope["loose"].table["acc@0.5"] - scope["run"].table["acc@0.5"]).dropna()
    assert len(gained) and (gained >= 0).all() and gained.sum() > 0
    assert (tmp_path / "results" / "runs" / "pictures" / "pareto.png").is_file()


def test_the_script_that_certifies_a_model_in_memory(monkeypatch, tmp_path, capsys):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        scope: dict = {}
        exec(BLOCKS[1], scope)
    assert len(scope["run"].certificates) == 8 and scope["run"].table["nfe"].item() == 1
    assert "predicted" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
