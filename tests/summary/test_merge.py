"""Runs that count the same cells are read together: each cell once, and a candidate is one purifier."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from summaries import Row, summary_of

from bench.analysis import best_sigmas, recommend
from bench.analysis.repeats import one_of_each
from bench.store.run import Run, read_run
from bench.summary.merge import merged
from bench.summary.rows import conditions, drawable, named
from bench.summary.summary import summarise


@pytest.fixture(scope="module")
def whole() -> Run:
    return read_run(ROOT / "results" / "embedded")


def part_of(run: Run, name: str, images: list[int]) -> Run:
    """A copy of a run with some of its images, under another name."""
    blocks = run.blocks[run.blocks["image"].isin(images)]
    facts = {kind: {str(i): run.manifest[kind][str(i)] for i in images} for kind in ("labels", "pixels")}
    return dataclasses.replace(
        run, folder=run.folder.with_name(name), blocks=blocks.reset_index(drop=True), manifest={**run.manifest, **facts}
    )


def figures(run_or_runs) -> pd.DataFrame:
    table = summarise(run_or_runs).table
    return table[["name", "sigma", "images", "acc@0.25", "acr", "nfe", "complete"]].reset_index(drop=True)


def test_a_copy_with_fewer_images_changes_no_figure(whole):
    images = sorted(map(int, whole.manifest["labels"]))
    copy = part_of(whole, "forty", images[:40])
    for runs in ([whole, copy], [copy, whole]):
        both = merged(runs)
        assert [run.folder.name for run in both] == [run.folder.name for run in runs]
        pd.testing.assert_frame_equal(figures(both), figures([whole]))
        assert any("forty" in note and "shown once" in note for note in summarise(both).notes)
    assert recommend(summarise(both), 0.25).chosen.images == 500


def test_two_halves_make_the_whole(whole):
    images = sorted(map(int, whole.manifest["labels"]))
    halves = [part_of(whole, "even", images[::2]), part_of(whole, "odd", images[1::2])]
    both = merged(halves)
    pd.testing.assert_frame_equal(figures(both), figures([whole]))
    assert not both[1].cells


def test_images_beyond_those_of_the_host_are_wanted_of_the_merged_cells_only(whole):
    images = sorted(map(int, whole.manifest["labels"]))
    first, second = part_of(whole, "first", images[:100]), part_of(whole, "second", images[50:150])
    own = next(iter(second.cells))
    second = dataclasses.replace(second, cells={own: second.cells[own]})
    table = summarise(merged([first, second])).table.set_index("cell")
    assert table.loc[own, ["images", "wanted"]].tolist() == [150, 150]
    assert set(table.drop(own)["images"]) == set(table.drop(own)["wanted"]) == {100}
    assert table["complete"].all()


def test_cells_with_other_votes_are_not_merged(whole):
    images = sorted(map(int, whole.manifest["labels"]))
    copy = part_of(whole, "edited", images[:40])
    votes = list(copy.blocks["votes"])
    votes[0] = votes[0][::-1]
    copy = dataclasses.replace(copy, blocks=copy.blocks.assign(votes=votes))
    both = merged([whole, copy])
    assert both[1].cells
    assert any("1 block" in note and "one of these runs is wrong" in note for note in summarise(both).notes)


@pytest.mark.parametrize(("kind", "value"), [("labels", 11), ("pixels", "0" * 16)])
def test_cells_of_other_images_are_not_merged(whole, kind, value):
    images = sorted(map(int, whole.manifest["labels"]))
    copy = part_of(whole, "other", images[:40])
    facts = {**copy.manifest[kind], str(images[0]): value}
    copy = dataclasses.replace(copy, manifest={**copy.manifest, kind: facts})
    found = summarise(merged([whole, copy]))
    assert any(f"other {kind} for image {images[0]}" in note for note in found.notes)


def test_cells_that_are_read_by_other_rules_stay_apart(whole):
    images = sorted(map(int, whole.manifest["labels"]))
    copy = part_of(whole, "strict", images)
    preset = {**copy.manifest["preset"], "alpha": 0.01}
    copy = dataclasses.replace(copy, manifest={**copy.manifest, "preset": preset})
    both = summarise(merged([whole, copy]))
    assert len(both.table) == 2 * len(whole.cells)
    words = conditions(drawable(both))
    assert "embedded: mnist5k · 500 images" in words and "strict: " in words
    assert "alpha = 0.001" in words and "alpha = 0.01" in words
    chosen = recommend(both, 0.25)
    assert f"{len(whole.cells)} rows" in " ".join(chosen.notes)
    kinds = {(s.option.purifier, s.option.parameters, s.option.sigma) for s in chosen.standings}
    assert len(kinds) == len(chosen.standings) == len(whole.cells)


def test_the_luckier_of_two_seeds_is_no_candidate_of_its_own():
    lucky, plain = np.repeat([0.5, -1], [16, 4]), np.repeat([0.5, -1], [20, 20])
    rows = (
        Row("onestep-edm", plain, run="first"),
        Row("onestep-edm", lucky, run="second", cell={"seed": 1}),
        Row("ddim(steps=2)", plain[::-1], run="second"),
    )
    summary = summary_of(*rows)
    kept, note = one_of_each(summary, named(summary))
    assert kept["series"].tolist() == ["onestep-edm", "ddim 2"] and kept["run"].tolist() == ["first", "second"]
    assert "onestep-edm · second" in note
    assert set(best_sigmas(summary)["run"][best_sigmas(summary)["purifier"] == "onestep-edm"]) == {"first"}


def test_purifiers_of_one_name_with_other_networks_are_two_candidates():
    rows = [
        Row("mine", [0.5, 0.5, -1], run=run, cell={"hashes": {"network edm": weights}})
        for run, weights in (("first", "a" * 16), ("second", "b" * 16))
    ]
    kept, note = one_of_each(summary_of(*rows), named(summary_of(*rows)))
    assert kept["series"].tolist() == ["mine · first", "mine · second"] and not note


def test_rows_of_fewer_images_do_not_compete_for_the_front():
    rows = drawable(
        summary_of(
            Row("a", [0.5] * 20),
            Row("b", [0.25] * 20),
            Row("few", [0.75] * 4, run="small"),
            Row("log", [0.9] * 20, source="imported, radii only", run="log"),
        )
    )
    assert dict(zip(rows["purifier"], rows["competes"], strict=True)) == {
        "a": True, "b": True, "few": False, "log": False
    }  # fmt: skip
