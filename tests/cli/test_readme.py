"""The Python code in README.md, docs/own.md and CONTRIBUTING.md runs, and is what the commands write."""

from __future__ import annotations

import re

import pytest
from conftest import ROOT

from bench.cli.scaffold import write_plugin
from bench.plugins.registry import CLASSIFIER, PURIFIER
from bench.testing import CLASSIFIER_CHECKS, PURIFIER_CHECKS

BLOCKS = [
    re.search(r"```python\n(.*?)```", path.read_text(), re.DOTALL)[1]
    for path in (ROOT / "README.md", ROOT / "docs" / "own.md")
]
GUIDE = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)


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
    before, after = (scope[name].table["acc@0.5"].dropna() for name in ("run", "loose"))  # NaN: out of reach
    assert len(before) == len(after) >= 24 and (after >= before).all() and (after > before).any()
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


def test_the_guide_shows_the_plugins_that_the_commands_write(tmp_path):
    purifier, _ = write_plugin(PURIFIER, "my-purifier", tmp_path, tmp_path)
    classifier, _ = write_plugin(CLASSIFIER, "my-classifier", tmp_path, tmp_path)
    assert GUIDE[:2] == [purifier.read_text(), classifier.read_text()]


def test_the_guides_tests_of_another_package_run_every_check(monkeypatch, tmp_path):
    package = tmp_path / "my_package"
    package.mkdir()
    write_plugin(PURIFIER, "my-purifier", package, tmp_path)
    write_plugin(CLASSIFIER, "my-classifier", package, tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    scope: dict = {}
    exec(GUIDE[2], scope)
    for check in PURIFIER_CHECKS:
        scope["test_my_purifier_conforms"](check)
    for check in CLASSIFIER_CHECKS:
        scope["test_my_classifier_conforms"](check)
