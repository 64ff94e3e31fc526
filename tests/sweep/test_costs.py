"""Static costs in the manifest of a run: counted once, also for an earlier version's, and never a reason to fail."""

from __future__ import annotations

from dataclasses import asdict

from bench.api.runs import Run, load, run, run_into
from bench.engine.engine import Engine
from bench.records import StaticCost
from bench.store.run import read_run
from bench.store.store import Store
from bench.sweep.preset import load_preset


def draws_of(found: Run) -> int:
    return int(found.stored.blocks["draws"].sum())


def test_a_run_has_the_static_cost_of_every_cell_and_counts_it_once(tiny_preset, tmp_path, monkeypatch):
    asked = []
    weigh = Engine.weigh
    monkeypatch.setattr(Engine, "weigh", lambda self, cells: asked.append(list(cells)) or weigh(self, cells))
    path, folder = tiny_preset(sigmas=[0.5, 1.0]), tmp_path / "run"
    first = run(str(path), out=folder)
    costs = first.stored.manifest["costs"]
    assert set(costs) == set(first.stored.cells) and all(
        StaticCost(**cost).classifier_flops > 0 for cost in costs.values()
    )
    assert (first.table["gflops"] > 0).all() and (first.table["gflops_purify"] == 0).tolist() == [True, False] * 2
    assert set(first.table["ms_rows"]) == {2}  # each purifier at both sigmas
    again = run(str(path), out=folder)
    assert len(asked) == 1 and again.stored.manifest["costs"] == costs


def test_a_complete_run_of_an_earlier_version_gets_them_without_a_draw(tiny_preset, tmp_path):
    path, folder = tiny_preset(), tmp_path / "run"
    first = run(str(path), out=folder)
    with Store(folder) as store:
        manifest = store.manifest()
        costs = manifest.pop("costs")
        store.describe(manifest)
    assert load(folder).table["gflops"].isna().all()
    again = run(str(path), out=folder)
    assert again.stored.manifest["costs"] == costs and draws_of(again) == draws_of(first)
    assert again.stored.manifest["sessions"] == first.stored.manifest["sessions"]


def test_a_cost_that_cannot_be_counted_fails_nothing(tiny_preset, tmp_path, monkeypatch):
    known = StaticCost(0, 0.0, 0, 0, 1.0, 1, "")
    monkeypatch.setattr(Engine, "weigh", lambda self, cells: [known, *["weights are gone"] * (len(cells) - 1)])
    said: list[str] = []
    found = run_into(tmp_path / "run", load_preset(str(tiny_preset()), {}), notify=said.append)
    assert not found.errors and found.table["complete"].all()
    assert list(read_run(tmp_path / "run").manifest["costs"].values()) == [asdict(known)]
    assert any("FLOPs of 1 of 2 cells are not known (weights are gone)" in line for line in said)

    def broken(self, cells):
        raise RuntimeError("the counter is broken")

    monkeypatch.setattr(Engine, "weigh", broken)
    assert run(str(tiny_preset("other")), out=tmp_path / "other").table["complete"].all()
