"""Two runs, image by image: what changed is found, what did not is not, and what differs between them is said."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from summaries import CELL, Row, hits, summary_of, with_versions

from bench.analysis.comparison import CompareError, compare
from bench.analysis.gains import paired_gains
from bench.summary.fronts import hypervolume
from bench.summary.statistics import _mcnemar_p
from bench.summary.summary import IMPORTED

BEFORE = Row("good", hits(100, range(60)), run="a")
AFTER = replace(BEFORE, run="b")


def compared(*rows: Row, radius: float | None = None):
    return compare(summary_of(*rows), "a", "b", radius)


def test_a_run_does_not_differ_from_itself():
    found = compared(BEFORE, AFTER)
    assert found.verdict == "Nothing changed: every image has the same certified radius in both runs (1 row)."
    assert found.same_noise and not found.differs and not found.notes
    (change,) = found.changes
    assert (change.images, change.differing, change.accuracy_p, change.acr_p) == (100, 0, 1, 1)
    assert found.volume.change == found.volume.low == found.volume.high == 0


def test_a_regression_is_found_with_its_size_and_its_interval():
    found = compared(BEFORE, replace(AFTER, radii=hits(100, range(45)), nfe=3.0, ms=2.5))
    (change,) = found.changes
    assert change.accuracy == (0.6, 0.45)
    assert change.accuracy_change.effect == pytest.approx(-0.15)
    assert change.accuracy_change.low < -0.15 < change.accuracy_change.high < 0
    assert change.accuracy_change.p == stats.binomtest(0, 15).pvalue
    assert change.acr == pytest.approx((0.6, 0.45)) and change.acr_change.effect == pytest.approx(-0.15)
    assert change.acr_change.low < -0.15 < change.acr_change.high < 0
    assert (change.nfe, change.ms, change.differing) == ((1.0, 3.0), (1.0, 2.5), 15)
    assert change.significant
    assert found.verdict == "1 of 1 row changed by more than chance explains: good at σ = 0.5."


def test_a_change_that_chance_explains_is_no_finding():
    found = compared(BEFORE, replace(AFTER, radii=hits(100, range(2, 61))))
    assert not found.changes[0].significant
    assert found.verdict == "No change in 1 row is more than chance explains."


def test_all_tests_of_a_comparison_are_corrected_together():
    rows = [replace(BEFORE, label=f"p{i}") for i in range(9)]
    shifted = hits(100, range(54))
    found = compared(*rows, *(replace(r, run="b") for r in rows[1:]), replace(rows[0], run="b", radii=shifted))
    first = next(change for change in found.changes if change.name == "p0")
    assert first.accuracy_change.p == _mcnemar_p(0, 6) < 0.05
    assert first.accuracy_p == pytest.approx(min(1, (18 - 1) * _mcnemar_p(0, 6)))  # the ACR's p is the only smaller one
    assert first.acr_change.p < first.accuracy_change.p
    assert first.acr_p == pytest.approx(18 * first.acr_change.p)


def test_without_a_radius_that_nearest_to_half_of_sigma_is_read():
    rows = [Row("x", hits(20, range(9)), sigma=sigma, run=run) for sigma in (0.25, 0.5, 1.0) for run in "ab"]
    assert [change.radius for change in compared(*rows).changes] == [0.25, 0.25, 0.5]
    assert {change.radius for change in compared(*rows, radius=0.4).changes} == {0.4}
    near = [replace(row, largest=0.2) for row in rows]
    assert {change.radius for change in compared(*near).changes} == {0.0}


def test_what_decided_the_counts_and_is_not_the_same_is_named():
    hashes = {"noise": "other" * 3, "purifier": "p" * 16, "classifier weights": "v" * 16, "engine": "e" * 16}
    found = compared(BEFORE, replace(AFTER, cell={"seed": 7, "precision": "bf16", "hashes": hashes}, device="GPU"))
    assert not found.same_noise
    unknown = {"cell": {"hashes": {}}}
    assert not compared(replace(BEFORE, **unknown), replace(AFTER, **unknown)).same_noise  # not known to be
    assert set(found.differs) == {
        "seed of the noise: 0 → 7",
        "precision: fp32 → bf16",
        "code of the noise: differs",
        "weights of the classifier: differs",
        "code of the engine: not recorded → eeeeeeee",
        "device (times do not compare): CPU → GPU",
    }


OTHER_HASHES = {"noise": "1" * 16, "purifier": "2" * 16, "classifier weights": "3" * 16, "network edm": "4" * 16}


def test_another_way_of_recording_identities_is_never_reported_as_changed_code_weights_or_noise():
    rows = [replace(BEFORE, label=label, run=run) for run in "ab" for label in ("good", "other")]
    rows = [replace(r, cell={"hashes": OTHER_HASHES, "data_hash": "9" * 16}) if r.run == "b" else r for r in rows]
    found = compare(with_versions(summary_of(*rows), run="b"), "a", "b")
    assert found.differs == (
        "identities were recorded in different ways (an earlier version of purifybench), so code and weights are not "
        "compared",
    )
    assert found.same_noise is None and found.verdict.startswith("Nothing changed")
    seeds = [replace(r, cell={**r.cell, "seed": int(r.run == "b")}) for r in rows]
    other_seed = compare(with_versions(summary_of(*seeds), run="b"), "a", "b")
    assert other_seed.same_noise is False and "seed of the noise: 0 → 1" in other_seed.differs


def test_versions_and_hashes_of_one_way_are_compared_by_name():
    rows = BEFORE, replace(AFTER, cell={"hashes": {**CELL["hashes"], "classifier weights": "v" * 16}})
    summary = with_versions(with_versions(summary_of(*rows), run="a"), run="b", engine=2)
    found = compare(summary, "a", "b")
    assert set(found.differs) == {"version of the engine: 1 → 2", "weights of the classifier: differs"}
    assert found.same_noise is True
    assert compare(with_versions(summary, run="b", noise=2), "a", "b").same_noise is False


def test_what_differs_in_some_rows_is_said_of_these():
    other = Row("other", hits(100, range(50)), run="a")
    changed = {"hashes": {**{"noise": "n" * 16, "classifier weights": "w" * 16}, "purifier": "q" * 16}}
    found = compared(BEFORE, other, AFTER, replace(other, run="b", cell=changed))
    assert found.same_noise and found.differs == ("code of the purifier: differs (of other)",)


def test_a_purifier_whose_parameters_changed_is_compared_by_its_name():
    before, after = replace(BEFORE, label="ode(steps=2)"), replace(AFTER, label="ode(steps=3, order=2)")
    found = compared(before, after)
    assert [(change.name, change.parameters) for change in found.changes] == [("ode 3 order=2", "steps=3, order=2")]
    assert found.differs == ("parameters: steps=2 → steps=3, order=2",)
    several = compared(before, replace(BEFORE, label="ode(steps=9)"), BEFORE, after, AFTER)
    assert [change.name for change in several.changes] == ["good"]  # either could be meant
    assert several.only_first == ("ode 2 at σ = 0.5", "ode 9 at σ = 0.5")
    assert several.only_second == ("ode 3 order=2 at σ = 0.5",)


def test_acrs_of_different_certifiers_are_not_compared():
    found = compared(BEFORE, replace(AFTER, rule="sequential tight (N0 = 10)"))
    (change,) = found.changes
    assert change.acr_change is None and change.acr_p is None and change.accuracy_change is not None
    assert found.volume is None
    assert any("certifiers differ" in note for note in found.notes)


def test_rows_that_are_not_whole_are_compared_on_what_both_have_and_said():
    half = replace(AFTER, radii=hits(50, range(40)), wanted=100, rule="sequential tight (N0 = 10)")
    found = compared(replace(BEFORE, rule=half.rule), half)
    assert found.changes[0].images == 50 and not found.changes[0].complete
    assert found.changes[0].accuracy == (1.0, 0.8)
    assert any("incomplete in the second run: good" in n and "easy images first" in n for n in found.notes)
    assert found.volume is None
    failed = compared(BEFORE, replace(AFTER, radii=hits(0), wanted=100, error="it raised"))
    assert failed.changes == () and failed.verdict.startswith("There is nothing to compare")
    assert failed.notes == ("failed in the second run: good",)


def test_one_image_and_nothing_certified_change_nothing():
    one = compared(replace(BEFORE, radii=hits(1, 0)), replace(AFTER, radii=hits(1)))
    assert not one.changes[0].significant and one.changes[0].differing == 1
    nothing = compared(replace(BEFORE, radii=hits(30)), replace(AFTER, radii=hits(30)))
    assert nothing.verdict.startswith("Nothing changed") and nothing.volume.volumes == (0, 0)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"label": "bad"}, r"no purifier and σ in common: the first has good at σ = 0.5, the second bad at σ = 0.5"),
        ({"sigma": 1.0}, r"no purifier and σ in common"),
        ({"source": IMPORTED}, r"no purifier and σ in common"),
        ({"cell": {"dataset": "letters"}}, r"different images: digits and letters"),
        ({"cell": {"data_hash": "1" * 16}}, r"different images: digits \(0000000000000000\) and digits \(1111"),
        ({"first": 1000}, r"no image in common"),
    ],
)
def test_what_does_not_belong_together_is_refused(other, said):
    with pytest.raises(CompareError, match=said):
        compared(BEFORE, replace(AFTER, **other))


def test_acr_changes_are_the_paired_gains_of_the_summary():
    rng = np.random.default_rng(0)
    rows = [Row(label, rng.random(80), run=run) for label in ("x", "y") for run in "ab"]
    summary = summary_of(*rows)
    both = summary_of(*(replace(row, run="a", label=f"{row.label}{row.run}") for row in rows))
    for change in compare(summary, "a", "b").changes:
        gain = paired_gains(both, f"{change.name}a").set_index("name").loc[f"{change.name}b"]
        assert change.acr_change.effect == pytest.approx(gain["gain"])
        assert (change.acr_change.low, change.acr_change.high) == pytest.approx(
            (gain["gain_low"], gain["gain_high"]), abs=0.006
        )


def test_the_change_of_hypervolume_is_that_of_the_fronts_on_the_same_images():
    rows = [BEFORE, Row("dear", hits(100, range(90)), nfe=9.0, run="a")]
    worse = [AFTER, replace(rows[1], run="b", radii=hits(100, range(80)))]
    found = compared(*rows, *worse).volume
    volumes = [float(hypervolume([1, 9], np.array([0.6, top]))) for top in (0.9, 0.8)]
    assert found.volumes == pytest.approx(tuple(volumes))
    assert found.low < found.change < found.high < 0 and found.rows == 2


def test_a_comparison_of_equals_finds_something_no_more_often_than_its_level():
    """Six purifiers, 60 images, two seeds of noise that change nothing on average."""
    found = 0
    for seed in range(50):
        drawn = np.random.default_rng(seed).random((12, 60)) < 0.6
        rows = [Row(f"p{i // 2}", np.where(d, 1.0, -1.0), run="ab"[i % 2]) for i, d in enumerate(drawn)]
        found += any(change.significant for change in compared(*rows).changes)
    assert found <= 7


def test_the_command_line_compares_two_runs(cli, tiny_preset, tmp_path):
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    preset = tiny_preset(images=12)
    for folder, seed in ((a, 0), (b, 0), (c, 1)):
        assert cli("run", preset, "--out", folder, "--seed", seed, "--no-plots").exit_code == 0
    same = cli("compare", a, b)
    assert same.exit_code == 0 and same.stdout.startswith("Nothing changed")
    assert "same images, the same noise" in same.stdout
    other = cli("compare", a, c, "--radius", "0.1")
    assert other.exit_code == 0 and "seed of the noise: 0 → 1" in other.stdout
    record = json.loads(cli("compare", a, c, "--json").stdout)
    assert not record["same_noise"] and {change["name"] for change in record["changes"]} == {"none", "onestep-edm"}
    for wrong in ((a, tmp_path / "absent"), (a, c, "--radius", "-1"), (a,)):
        refused = cli("compare", *wrong)
        assert refused.exit_code == 2 and "Traceback" not in refused.output
