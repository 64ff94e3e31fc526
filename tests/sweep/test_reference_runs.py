"""A reference run holds every cell of its preset, so that the command that made it counts nothing again."""

from __future__ import annotations

import pytest
from conftest import ROOT

from bench.store.run import read_run
from bench.summary.summary import summarise
from bench.sweep.plan import make_plan
from bench.sweep.preset import load_preset
from bench.sweep.settle import settle_options, with_device_defaults

DATA = {"cifar10-fair": "cifar10-jpeg", "cifar10-fair-many": "cifar10-jpeg"}


@pytest.mark.parametrize("name", ["embedded", "embedded-fair", "embedded-far", "embedded-fair-many", *DATA])
def test_a_reference_run_is_complete(name, request):
    folder = str(request.getfixturevalue("shared_data") / DATA[name]) if name in DATA else None
    run = read_run(ROOT / "results" / name)
    preset = with_device_defaults(load_preset(name, {"data": folder}), "cpu")
    planned = settle_options(make_plan(preset, "cpu"), "cpu", measure=None, before=run.manifest)
    assert {cell.key for cell in planned.cells} == set(run.cells)
    rows = summarise([run]).table
    assert rows["complete"].all() and set(rows["images"]) == {len(planned.images)}
