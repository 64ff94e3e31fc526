"""An error names the page that explains its subject."""

from __future__ import annotations

import re
from importlib import import_module

from command import refused
from conftest import ROOT

from bench.cli.shell import page_of
from bench.errors import InputError, PurifyBenchError, RunError, TimeOver
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import WeightsError

OF_THEMSELVES = (InputError, RunError, TimeOver)  # a value, or the machine: the message is enough
MODULES = [
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for package in ("bench", "purifiers", "classifiers")
    for file in sorted((ROOT / package).rglob("*.py"))
    if re.search(r"^class \w+\(.*(Error|Fault|Refused)", file.read_text(), re.MULTILINE)
]


def test_every_class_of_error_has_a_page_that_exists():
    kinds = {kind for name in MODULES for kind in vars(import_module(name)).values() if isinstance(kind, type)}
    explained = [
        kind
        for kind in kinds
        if issubclass(kind, (PurifyBenchError, ClassifierError, WeightsError)) and not issubclass(kind, OF_THEMSELVES)
    ]
    pages = {kind.__name__: page_of(kind) for kind in explained if kind is not PurifyBenchError}
    assert len(pages) > 20 and None not in pages.values(), pages
    assert all((ROOT / page).is_file() for page in pages.values()), pages


def test_a_network_that_cannot_be_loaded_names_the_page_of_networks(cli, tmp_path):
    networks = f"edm={tmp_path / 'missing.safetensors'}"
    said = refused(
        cli("run", "embedded", "--purifiers", "onestep-edm", "--networks", networks, "--out", tmp_path / "x")
    )
    assert said.splitlines()[-1] == "explained in docs/networks.md"


def test_a_relative_path_to_weights_that_are_missing_names_the_folder_where_it_starts(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = "run", "embedded", "--purifiers", "onestep-edm", "--out", tmp_path / "x"
    for option in (("--networks", "edm=zoo/edm.safetensors"), ("--classifier", "cnn:path=zoo/c.safetensors")):
        assert f"is searched from the current folder, {tmp_path}" in refused(cli(*command, *option))


def test_the_page_is_printed_below_the_message(cli, tmp_path):
    said = refused(cli("summary", tmp_path / "nothing"))
    assert said.splitlines()[-1] == "explained in docs/faults.md"
