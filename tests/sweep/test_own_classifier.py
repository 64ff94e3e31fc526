"""A row of a preset with a classifier of its own: what it changes, and what it leaves as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CNN as SHAPE
from conftest import ROOT

import purifybench as pb
from bench.doctor.duration import seconds_per_draw
from bench.doctor.requirements import needs
from bench.engine.compute import ComputeConfig
from bench.engine.devices import prepare_device
from bench.engine.loader import Loader
from bench.plugins import registry as plugins
from bench.records import Cell
from bench.store.run import read_run
from bench.summary.names import display_names
from bench.summary.summary import summarise
from bench.sweep import preset, settle
from bench.sweep.plan import make_plan
from bench.sweep.preset import PresetError
from bench.sweep.resolved import PlanError, resolve
from classifiers.nets.cnn import CNN
from classifiers.nets.files import save_cnn

OK, REFUSED = 0, 2
OWN = {"noisy-classifier", *(f"noisy-classifier-{sigma}" for sigma in ("0.25", "0.5", "1")), "noisy-classifier-before"}
OWN |= {"classifier-ft", "classifier-ft-0.5"}
COMMITTED = sorted(path.parent for path in (ROOT / "results").glob("**/manifest.json") if "runs" not in path.parts)


def planned(path, **overrides):
    return make_plan(preset.load_preset(str(path), overrides), "cpu")


def random_classifier(path: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    return save_cnn(path, CNN(**SHAPE), SHAPE, {})


@pytest.fixture
def own(tmp_path) -> Path:
    """A classifier beside that of the tiny zoo."""
    return random_classifier(tmp_path / "noisy-classifier.safetensors", 5)


@pytest.fixture
def each(tmp_path) -> Path:
    """Classifiers for sigma = 0.25, 0.5 and 1, as a row names all of them."""
    for seed, sigma in enumerate((0.25, 0.5, 1.0)):
        random_classifier(tmp_path / f"noisy-{sigma:g}.safetensors", seed)
    return tmp_path / "noisy-{sigma}.safetensors"


def with_own(path: Path) -> list:
    """Plain smoothing, the same with a classifier of its own, and a purifier."""
    return ["none", {"name": "none", "classifier": {"name": "cnn", "path": str(path)}}, "onestep-edm"]


@pytest.mark.parametrize("folder", COMMITTED, ids=lambda folder: folder.name)
def test_cells_of_committed_runs_keep_their_keys(folder):
    stored = json.loads((folder / "manifest.json").read_text())["cells"]
    assert stored
    for entry in stored:
        cell = Cell.from_json(entry["cell"])
        assert cell.key == entry["key"]
        assert ("own_classifier" in cell.to_json()) == cell.own_classifier
        name = Path(cell.classifier_parameters["path"]).name.removesuffix(".safetensors")
        assert cell.own_classifier == (name in OWN)
        each = {"path": cell.classifier_parameters["path"].removesuffix(f"{cell.sigma:g}") + "{sigma}"}
        assert cell.by_sigma == (each if name == f"noisy-classifier-{cell.sigma:g}" else {})


def test_the_rows_beside_it_are_counted_as_without_it(tiny_preset, own):
    alone = planned(tiny_preset("alone", purifiers=["none", "onestep-edm"]))
    beside = planned(tiny_preset("beside", purifiers=with_own(own)))
    plain, noisy, edm = beside.cells
    assert [plain.key, edm.key] == [cell.key for cell in alone.cells]
    assert noisy.key not in (plain.key, edm.key)
    assert [cell.own_classifier for cell in beside.cells] == [False, True, False]
    assert noisy.hashes["classifier weights"] != plain.hashes["classifier weights"]
    assert noisy.label == f"none(classifier=cnn(path={own}))" and plain.label == "none"


def test_a_cell_is_the_same_whether_its_row_or_the_preset_names_the_classifier(tiny_preset, own):
    """So its counts are continued; only its label differs."""
    named = planned(tiny_preset("named", purifiers=with_own(own))).cells[1]
    whole = planned(tiny_preset("whole", purifiers=["none"], classifier={"name": "cnn", "path": str(own)})).cells[0]
    assert named.key == whole.key and named.own_classifier and not whole.own_classifier
    assert Cell.from_json(named.to_json()) == named


def test_the_command_line_writes_it_behind_an_at(tiny_preset, own):
    written = planned(tiny_preset(purifiers=with_own(own)))
    said = preset.load_preset(
        str(tiny_preset()), {"purifiers": f"none, none@cnn:path={own}:precision=fp32, onestep-edm"}
    )
    assert [cell.key for cell in make_plan(said, "cpu").cells] == [cell.key for cell in written.cells]
    with pytest.raises(PresetError, match="write the classifier of a single purifier as none@CLASSIFIER"):
        preset.load_preset(str(tiny_preset()), {"purifiers": "none:classifier=cnn"})
    hub = preset.load_preset(str(tiny_preset()), {"classifier": "hf:path=someone/model@main"})  # an @ of the hub's
    assert hub.classifier.parameters == {"path": "someone/model@main"} and hub.classifier.classifier is None


def test_a_preset_without_it_is_stored_as_before(tiny_preset):
    stored = preset.load_preset(str(tiny_preset()), {}).model_dump(mode="json")
    assert stored["purifiers"] == [{"name": "none"}, {"name": "onestep-edm"}]
    assert stored["classifier"].keys() == {"name", "path"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"purifiers": ["none", "none"]}, "the same purifier, classifier and sigma twice"),
        ({"purifiers": [{"name": "none", "classifier": {"name": "cnm"}}]}, "'cnn'"),
        ({"purifiers": [{"name": "none", "classifier": {"name": "cnn", "path": "absent"}}]}, "absent"),
    ],
)
def test_a_row_that_cannot_be_is_refused(tiny_preset, fields, said):
    with pytest.raises((PlanError, plugins.PluginError), match=said):
        planned(tiny_preset(**fields))


def test_the_classifier_of_the_preset_named_again_is_no_other_row(tiny_preset, tiny_zoo):
    same = {"name": "none", "classifier": {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors")}}
    (cell,) = planned(tiny_preset(purifiers=[same])).cells
    assert not cell.own_classifier and cell.label == "none"
    with pytest.raises(PlanError, match="twice"):
        planned(tiny_preset(purifiers=["none", same]))


RESERVED = """
from dataclasses import dataclass
from purifiers.base import Purifier

@dataclass(frozen=True)
class Mine(Purifier):
    name = "mine"
    classifier: str = ""
"""


def test_no_purifier_may_have_a_parameter_of_that_name(tmp_path):
    (tmp_path / "mine.py").write_text(RESERVED)
    with pytest.raises(plugins.PluginError, match="rename the parameter"):
        plugins.create(plugins.PURIFIER, str(tmp_path / "mine.py"), {})


def test_both_classifiers_stay_loaded_and_vote_each_for_its_rows(tiny_preset, own):
    found = planned(tiny_preset(purifiers=with_own(own)))
    loader = Loader(found.weights, prepare_device("cpu"), (1, 28, 28), found.plugin_files)
    plain, noisy, edm = map(loader.load, found.cells)
    assert plain.classifier is edm.classifier is loader.load(found.cells[0]).classifier
    x = torch.rand(2, 1, 28, 28)
    assert not torch.equal(plain.classifier(x), noisy.classifier(x))


@pytest.mark.parametrize(("asked", "expected"), [("auto", "bf16"), ("fp32", None), (None, None)])
def test_a_precision_left_open_is_that_of_the_presets_classifier(tiny_preset, tiny_zoo, own, asked, expected):
    classifier = {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors"), "precision": "auto"}
    rows = with_own(own)
    rows[1]["classifier"] |= {"precision": asked} if asked else {}
    rows = [rows[1], rows[0]]  # the row with its own stands first, and is not the one that is measured
    found = planned(tiny_preset(purifiers=rows, classifier=classifier))
    assert settle._request_of(found).cells[0].own_classifier is False
    settled = settle._apply(found, ComputeConfig(classifier="bf16"), 500, {})
    noisy, plain = settled.cells
    assert plain.classifier_parameters["precision"] == "bf16"
    assert noisy.classifier_parameters.get("precision") == expected
    named = settled.preset.purifiers[0].classifier.parameters.get("precision")
    assert named == (expected or asked)


def test_a_run_tells_both_rows_apart_everywhere_and_can_be_verified(cli, tiny_preset, own, tmp_path):
    path = tiny_preset(purifiers=with_own(own), images=20, n=40)
    out = tmp_path / "out"
    result = cli("run", path, "--out", out, "--no-plots")
    assert result.exit_code == OK, result.output
    assert "none [noisy-classifier]" in result.output
    table = summarise([read_run(out)]).table.set_index("name")
    assert list(table.index) == ["none", "none [noisy-classifier]", "onestep-edm"]
    assert table.loc["none [noisy-classifier]", "classifier"] == f"cnn(path={own})"
    assert list(table["family"]) == ["none", "own-classifier", "one-step"]
    verified = cli("verify", out, "--share", "1")
    assert verified.exit_code == OK, verified.output
    for command in (("summary",), ("recommend", "--radius", "0")):
        shown = cli(command[0], out, *command[1:])
        assert shown.exit_code == OK and "none [noisy-classifier]" in shown.output, shown.output
    assert cli("tables", out).exit_code == OK
    assert r"none \[noisy-classifier\]" in (out / "tables" / "table-radius-0.md").read_text()
    page = pb.report([pb.load(out)], tmp_path / "report.html")
    assert "none [noisy-classifier]" in Path(page).read_text()
    checks = json.loads((out / "manifest.json").read_text())["trust"]["checks"]
    assert all({"purifier", "classifier"} <= entry.keys() for entry in checks.values()) and len(checks) == 3


def test_a_run_that_hides_or_invents_a_classifier_of_its_own_is_found_out(cli, tiny_preset, own, tmp_path):
    from bench.verify.facts import contradictions

    out = tmp_path / "out"
    assert cli("run", tiny_preset(purifiers=with_own(own)), "--out", out, "--no-plots").exit_code == OK
    run = read_run(out)
    assert not list(contradictions(run, summarise([run])))
    key = next(key for key, cell in run.cells.items() if cell.own_classifier)
    hidden = {**run.cells, key: replace(run.cells[key], own_classifier=False)}
    forged = replace(run, cells=hidden)
    assert any("classifier of its own" in problem for problem in contradictions(forged, summarise([run])))


def test_a_row_may_have_a_classifier_for_each_sigma(tiny_preset, each):
    found = planned(tiny_preset(purifiers=with_own(each), sigmas=[0.25, 0.5, 1.0]))
    cells = [cell for cell in found.cells if cell.own_classifier]
    assert [Path(cell.classifier_parameters["path"]).stem for cell in cells] == ["noisy-0.25", "noisy-0.5", "noisy-1"]
    assert {cell.label for cell in cells} == {f"none(classifier=cnn(path={each}))"}  # one row
    assert {*display_names(found.cells, {}).values()} == {"none", "none [noisy-σ]", "onestep-edm"}
    assert len({cell.hashes["classifier weights"] for cell in cells}) == 3
    loader = Loader(found.weights, prepare_device("cpu"), (1, 28, 28), found.plugin_files)
    x = torch.rand(2, 1, 28, 28)
    votes = [loader.load(cell).classifier(x) for cell in cells]
    for cell, logits in zip(cells, votes, strict=True):
        alone = with_own(Path(str(each).replace("{sigma}", f"{cell.sigma:g}")))
        (same,) = planned(tiny_preset("alone", purifiers=alone[1:2], sigmas=[cell.sigma])).cells
        assert same.key == cell.key and same.label != cell.label  # so its counts are continued
        assert torch.equal(loader.load(same).classifier(x), logits)
        assert Cell.from_json(cell.to_json()) == cell
    assert not any(torch.equal(votes[0], other) for other in votes[1:])


def test_any_parameter_of_a_rows_classifier_may_hold_the_sigma(tiny_preset, own):
    row = f"none@cnn:path={own}:local_votes=3:local_noise={{sigma}}"
    cells = planned(tiny_preset(purifiers=[row], sigmas=[0.25, 0.5])).cells
    assert [cell.classifier_parameters["local_noise"] for cell in cells] == [0.25, 0.5]
    assert {cell.label for cell in cells} == {f"none(classifier=cnn(path={own}, local_votes=3, local_noise={{sigma}}))"}


def test_a_sigma_without_its_classifier_is_refused_by_name(cli, tiny_preset, each):
    result = cli("run", tiny_preset(purifiers=with_own(each)), "--sigmas", "0.5,0.75", "--no-plots")
    assert result.exit_code == REFUSED and "noisy-0.75.safetensors is missing" in result.output
    assert "A row of none has a classifier for each sigma, here 0.75: leave out one or the other" in result.output


def test_the_classifier_of_a_preset_is_one_for_all_sigmas(tiny_preset, each):
    with pytest.raises(PresetError, match="classifier: it is one for all sigmas"):
        preset.load_preset(str(tiny_preset(classifier={"name": "cnn", "path": str(each)})), {})


def test_a_row_of_several_classifiers_is_one_candidate_and_can_be_verified(cli, tiny_preset, each, tmp_path):
    from bench.verify.facts import contradictions

    out = tmp_path / "out"
    path = tiny_preset(purifiers=with_own(each), sigmas=[0.25, 0.5], images=20, n=40)
    for _ in range(2):  # the second one finds everything counted
        result = cli("run", path, "--out", out, "--no-plots")
        assert result.exit_code == OK, result.output
    for command in (("verify", out, "--share", "1"), ("summary", out), ("recommend", out, "--radius", "0")):
        shown = cli(*command)
        assert shown.exit_code == OK, shown.output
        assert command[0] == "verify" or "none [noisy-σ]" in shown.output, shown.output
    run = read_run(out)
    table = summarise([run]).table.set_index("name").loc["none [noisy-σ]"]
    assert list(table["sigma"]) == [0.25, 0.5] and table["classifier"].nunique() == 2
    for change in ({"by_sigma": {}}, {"by_sigma": {"path": "elsewhere-{sigma}"}}):
        forged = replace(run, cells={k: replace(c, **change) if c.by_sigma else c for k, c in run.cells.items()})
        assert any("a classifier for each sigma" in problem for problem in contradictions(forged, summarise([run])))


def test_the_duration_of_a_sweep_counts_the_classifier_of_each_sigma(tiny_preset, each):
    found = preset.load_preset(str(tiny_preset(purifiers=with_own(each), sigmas=[0.25, 0.5])), {})
    resolved = resolve(found)
    assert [need.name for need in needs(found, resolved) if "noisy" in need.name] == [
        f"classifier cnn(path={str(each).replace('{sigma}', sigma)})" for sigma in ("0.25", "0.5")
    ]
    rate = seconds_per_draw(found, resolved, list(needs(found, resolved)), ["cpu"])
    assert rate is not None and rate[0] > 0 and rate[1].startswith("measured")
