"""From counts to figures: certificates, paired gains, and what the reader is told."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy import stats

from bench.analysis.gains import paired_gains
from bench.records import COUNTED, Cell
from bench.store.run import Run, read_run
from bench.summary.cells import _FOREIGN_RULE, _describe_row
from bench.summary.notes import shared_times
from bench.summary.rows import drawable
from bench.summary.summary import summarise


def test_an_abstained_or_wrong_image_counts_nowhere():
    rows = pd.DataFrame({"correct": [True, False, False], "radius": [0.4, 0.9, 0.0], "predicted": [1, 2, -1]})
    found = _describe_row(rows, [0.0, 0.4, 0.5])
    assert (found["acc@0"], found["acc@0.4"], found["acc@0.5"]) == (1 / 3, 1 / 3, 0)
    assert found["acr"] == pytest.approx(0.4 / 3)
    assert found["abstained"] == 1 / 3


RESULTS = ROOT / "results"
CELL = Cell("none", {}, "cnn", {}, "mnist5k", "h", 0.5, 0, "fp32", "cpu", {})
SWEEP = {"n0": 10, "n": 40, "alpha": 0.001, "block": 40, "radii": [0.0, 0.25], "images": 2}


def run_of(tmp_path, hits, cell=CELL, device="CPU", wanted=None, error=None):
    """A run of one cell whose images, all of class 0, have so many hits of 40."""
    blocks = []
    for image, k in enumerate(hits):
        for stage, votes in (("select", [10, 0]), ("estimate", [k, 40 - k])):
            draws = sum(votes)
            costs = {"nfe": 2 * draws, "classifier_rows": draws, "noise_s": 0.0, "purify_s": draws * 1e-3}
            row = {"cell": cell.key, "image": image, "stage": stage, "first": 0, "draws": draws, "votes": votes}
            blocks.append({**row, **costs, "classify_s": 0.0, "peak_bytes": 1, "device": device})
    labels = {str(i): 0 for i in range(wanted or len(hits))}
    manifest = {"preset": SWEEP, "labels": labels, "families": {cell.purifier: "none"}, "sweep": [cell.key]}
    errors = {cell.key: error} if error else {}
    return Run(tmp_path, manifest, {cell.key: cell}, errors, pd.DataFrame(blocks), pd.DataFrame())


def test_a_summary_reads_counts_as_certificates(tmp_path):
    row = summarise([run_of(tmp_path, [40, 20, 38])]).table.iloc[0]
    assert (row["images"], row["acc@0"], row["acc@0.25"]) == (3, 2 / 3, 2 / 3)
    assert row["abstained"] == 1 / 3
    assert (row["nfe"], row["ms_purify"]) == pytest.approx((2, 1))
    full, partial = (0.5 * stats.norm.ppf(stats.beta.ppf(0.001, k, 41 - k)) for k in (40, 38))
    assert row["acr"] == pytest.approx((full + partial) / 3)
    assert row["largest"] == pytest.approx(full)


def static_cost(**facts):
    """A manifest's static cost of a cell of two evaluations."""
    network = {"evaluations": 2, "evaluation_flops": 3e9, "noise_numbers": 0, "parameters": 5, "operations": "ops"}
    return {**network, "classifier_flops": 1e9, "classifier_parameters": 7, **facts}


def several(tmp_path, *parts):
    """A run of one cell for each part: (fields of the cell, factor of its seconds, static cost)."""
    cells = [replace(CELL, **fields) for fields, _, _ in parts]
    runs = [run_of(tmp_path, [40, 40], cell) for cell in cells]
    blocks = [
        run.blocks.assign(purify_s=run.blocks["purify_s"] * part[1]) for run, part in zip(runs, parts, strict=True)
    ]
    costs = {cell.key: part[2] for cell, part in zip(cells, parts, strict=True) if part[2] is not None}
    manifest = {**runs[0].manifest, "costs": costs, "sweep": [cell.key for cell in cells]}
    return Run(tmp_path, manifest, {c.key: c for c in cells}, {}, pd.concat(blocks, ignore_index=True), pd.DataFrame())


def test_flops_are_those_of_the_measured_evaluations_and_of_the_classifier(tmp_path):
    table = summarise([several(tmp_path, ({}, 1.0, static_cost(evaluations=9)))]).table
    assert table["nfe"][0] == 2  # as it was measured: a solver that adapts has others for other images
    assert (table["gflops_purify"][0], table["gflops"][0]) == (6, 7)
    assert (table["network_parameters"][0], table["classifier_parameters"][0]) == (5, 7)
    assert table["ms_joint"][0] == pytest.approx(table["ms_purify"][0] + table["ms_classify"][0])


def test_rows_that_do_equal_work_share_their_milliseconds(tmp_path):
    same = static_cost()
    run = several(tmp_path, ({}, 1.0, same), ({"sigma": 1.0}, 2.0, same), ({"purifier": "other"}, 6.0, same))
    found = summarise([run])
    assert found.table["ms_purify"].tolist() == pytest.approx([3, 3, 3]) and set(found.table["ms_rows"]) == {3}
    assert shared_times(found.table).endswith("whatever the weights and σ: none and other.")
    assert found.table["counted_draws"].tolist() == [100] * 3
    voter = {"own_classifier": True, "classifier_parameters": {"path": "of one architecture"}}
    assert set(summarise([several(tmp_path, ({}, 1.0, same), (voter, 2.0, same))]).table["ms_rows"]) == {2}


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"sigma": 1.0}, static_cost(operations="of another sampler")),
        ({"sigma": 1.0}, static_cost(evaluations=3)),  # not those that were measured: it adapts to the image
        ({"sigma": 1.0, "precision": "bf16"}, static_cost()),
        ({"sigma": 1.0, "compute": {"compile": "default"}}, static_cost()),
        ({"sigma": 1.0}, static_cost(classifier_flops=2e9)),  # before a larger classifier
        ({"sigma": 1.0, "classifier": "other"}, static_cost()),
        ({"sigma": 1.0, "classifier_parameters": {"precision": "bf16"}}, static_cost()),
        ({"sigma": 1.0}, None),  # of an earlier version
        ({"sigma": 1.0}, {"operations": "ops"}),  # damaged
        ({"sigma": 1.0}, static_cost(evaluation_flops="1e9")),
        ({"sigma": 1.0}, "damaged"),
    ],
)
def test_rows_of_other_work_keep_their_own_milliseconds(tmp_path, fields, cost):
    found = summarise([several(tmp_path, ({}, 1.0, static_cost()), (fields, 2.0, cost))])
    assert found.table["ms_purify"].tolist() == pytest.approx([1, 2]) and set(found.table["ms_rows"]) == {1}
    assert shared_times(found.table) == ""


def test_a_run_without_static_costs_has_its_own_milliseconds(tmp_path):
    table = summarise([several(tmp_path, ({}, 1.0, None), ({"sigma": 1.0}, 2.0, None))]).table
    assert table[["gflops", "gflops_purify", "network_parameters"]].isna().all(axis=None)
    assert (table["ms_joint"] > 0).all() and set(table["ms_rows"]) == {1}


def test_what_is_missing_is_said(tmp_path):
    incomplete = summarise([run_of(tmp_path, [40], wanted=5)])
    assert any(note.startswith("incomplete") for note in incomplete.notes)
    failed = summarise([run_of(tmp_path, [40], error="it raised")])
    assert any("failed: none" in note for note in failed.notes)
    mixed = summarise([run_of(tmp_path / "a", [40], device="GPU"), run_of(tmp_path / "b", [40], device="CPU")])
    assert any("different devices: CPU; GPU" in note for note in mixed.notes)
    (unaudited,) = summarise([run_of(tmp_path, [40])]).notes
    assert unaudited.startswith(f"{tmp_path.name}: no audit")


def test_runs_of_one_folder_name_stay_apart(tmp_path):
    found = summarise([run_of(tmp_path / "x" / "run", [40]), run_of(tmp_path / "y" / "run", [20])])
    assert found.table["run"].tolist() == ["run (1)", "run (2)"]
    assert found.certificates.groupby("run")["radius"].sum().tolist() == pytest.approx([found.table["largest"][0], 0])


def test_paired_gains_are_taken_image_by_image(tmp_path):
    other = replace(CELL, purifier="better")
    hits = np.random.default_rng(0).integers(25, 36, 60)
    one, two = run_of(tmp_path, hits), run_of(tmp_path, hits + 2, other)
    blocks = pd.concat([one.blocks, two.blocks], ignore_index=True)
    both = replace(one, cells={**one.cells, **two.cells}, blocks=blocks)
    found = summarise([both])
    gains = paired_gains(found, "none")
    assert gains["name"].tolist() == ["better"]
    acr = found.table.set_index("name")["acr"]
    assert gains["gain"][0] == pytest.approx(acr["better"] - acr["none"])
    # the pairs differ by nearly the same amount, so the paired interval is narrower than either row's own
    width = gains["gain_high"][0] - gains["gain_low"][0]
    assert gains["gain_low"][0] > 0 and width < 0.7 * (found.table["acr_high"] - found.table["acr_low"]).min()
    with pytest.raises(ValueError, match=r"no purifier 'nope'.*none, better"):
        paired_gains(found, "nope")


def test_gains_at_a_radius_count_the_images_that_one_of_the_two_certifies(tmp_path):
    other = replace(CELL, purifier="better")
    one, two = run_of(tmp_path, [40] * 10 + [20] * 20), run_of(tmp_path, [40] * 9 + [20] + [40] * 12 + [20] * 8, other)
    blocks = pd.concat([one.blocks, two.blocks], ignore_index=True)
    found = summarise([replace(one, cells={**one.cells, **two.cells}, blocks=blocks)])
    gains = paired_gains(found, "none", 0.25)
    assert gains["gain"][0] == pytest.approx((12 - 1) / 30)
    assert gains["gain_low"][0] > 0
    assert gains["p"][0] == gains["p_holm"][0] == pytest.approx(stats.binomtest(1, 13).pvalue)
    assert paired_gains(found, "none", 0.9).empty  # 40 draws cannot reach it


def test_unfinished_rows_take_no_part_in_paired_gains(tmp_path):
    """A sequential certifier gives them the easy images, and they would count in Holm's correction."""
    names = ("none", "better", "begun")
    runs = [run_of(tmp_path, [40] * 30, replace(CELL, purifier=name)) for name in names]
    blocks = pd.concat([run.blocks for run in runs], ignore_index=True)
    found = summarise([replace(runs[0], cells={k: v for run in runs for k, v in run.cells.items()}, blocks=blocks)])
    assert set(paired_gains(found, "none")["name"]) == {"better", "begun"}
    fewer = replace(found, table=found.table.assign(complete=found.table["name"] != "begun"))
    assert paired_gains(fewer, "none")["name"].tolist() == ["better"]
    assert paired_gains(fewer, "begun").empty


def test_a_row_is_never_compared_with_the_baseline_of_another_run(tmp_path):
    other = replace(CELL, purifier="better")
    found = summarise([run_of(tmp_path / "a", [30, 40]), run_of(tmp_path / "b", [40, 40], other)])
    assert paired_gains(found, "none").empty


def test_counts_are_never_read_by_a_rule_that_did_not_stop_them():
    """Neither by another certifier in the manifest, nor by another version's constants."""
    run = read_run(RESULTS / "sequential" / "tight-10000")
    preset = run.manifest["preset"]
    assert summarise([run]).table["error"].isna().all()
    for changed in ({"certifier": "cohen", "n": 100}, {"alpha": 0.01}, {"n_max": 5000}, {"radii": [0.0, 0.25]}):
        other = replace(run, manifest={**run.manifest, "preset": {**preset, **changed}})
        table = summarise([other]).table
        assert (table["error"] == _FOREIGN_RULE).all() and (table["images"] == 0).all()


FACTS = ("name", "purifier", "parameters", "networks", "classifier", "family", "dataset", "source", "certifier")


def test_the_facts_of_a_row_are_columns():
    tight = summarise([read_run(RESULTS / "cifar10-fair")]).table.set_index("name").loc["consistency"].iloc[0]
    assert tight[list(FACTS[1:])].tolist() == [
        "consistency",
        "steps=1",
        "cm",
        "cnn(path=cifar10/classifier, precision=bf16)",
        "consistency",
        "cifar10-jpeg",
        COUNTED,
        "tight",
    ]
    assert tight["sequential"] and tight["label_aware"] and tight["complete"]
    assert tight["rule"].startswith("sequential tight (N0 = 20, Nmax = 500")
    fixed = summarise([read_run(RESULTS / "embedded")]).table.iloc[0]
    assert (fixed["certifier"], fixed["sequential"], fixed["label_aware"], fixed["networks"]) == (
        *("cohen", False, False, ""),
    )


def test_a_radius_that_the_draws_cannot_certify_has_no_accuracy(tmp_path):
    row = summarise([run_of(tmp_path, [40, 40])], [0.25, 0.9]).table.iloc[0]
    assert row["acc@0.25"] == 1 and row["largest"] < 0.9
    assert row[["acc@0.9", "acc_low@0.9", "acc_high@0.9"]].isna().all()


def test_a_failed_row_has_no_figures(tmp_path):
    failed = summarise([run_of(tmp_path, [40, 40], wanted=5, error="it raised")])
    row = failed.table.iloc[0]
    figures = [
        "acc@0",
        "acc_high@0.25",
        "acr",
        "acr_low",
        "abstained",
        "nfe",
        "ms_purify",
        "counted_draws",
        "peak_bytes",
    ]
    assert row[figures].isna().all() and row["error"] == "it raised" and row["images"] == 0
    assert not row["complete"] and failed.certificates.empty and drawable(failed).empty


def test_a_summary_of_nothing_has_its_columns():
    empty = summarise([]).table
    assert len(empty) == 0 and {*FACTS, "acc@0", "acr", "largest", "nfe"} <= set(empty)
    assert drawable(summarise([])).empty


def test_counts_are_read_at_another_alpha_as_if_they_had_been_certified_at_it(tmp_path):
    run = run_of(tmp_path, [40, 38, 30, 24])
    at = {alpha: summarise([run], alpha=alpha) for alpha in (0.001, 0.05)}
    asked = replace(run, manifest={**run.manifest, "preset": {**SWEEP, "alpha": 0.05}})
    pd.testing.assert_frame_equal(at[0.05].table, summarise([asked]).table)
    pd.testing.assert_frame_equal(at[0.001].table, summarise([run]).table)
    assert at[0.05].table["acr"][0] > at[0.001].table["acr"][0]
    assert at[0.05].certificates["p_lower"][0] == pytest.approx(0.05 ** (1 / 40))
    assert "alpha = 0.05" in at[0.05].table["rule"][0]
    for wrong in (0, 1, -0.1, float("nan")):
        with pytest.raises(ValueError, match="alpha must be between 0 and 1"):
            summarise([run], alpha=wrong)


def test_counts_of_a_sequential_rule_are_read_at_their_own_alpha_only():
    run = read_run(RESULTS / "sequential" / "tight-10000")
    with pytest.raises(ValueError, match=r"'tight', which fixes alpha before the first draw.*--certifier anytime"):
        summarise([run], alpha=0.01)
    assert summarise([run], alpha=run.manifest["preset"]["alpha"]).table["error"].isna().all()


def test_runs_with_other_pixels_under_one_index_have_different_images():
    from bench.summary.summary import _image_prints

    first, second, third = {"0": "a", "1": "b"}, {"1": "b", "2": "c"}, {"0": "z"}
    assert _image_prints([first, second]) == ["", ""] == _image_prints([first, {}])
    prints = _image_prints([first, second, third])
    assert prints[1] == "" and prints[0] and prints[2] and prints[0] != prints[2]
