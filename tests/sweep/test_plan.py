"""From a preset to cells: what is part of a result's identity, and what a manifest records."""

from __future__ import annotations

import json

import pytest

from bench.errors import InputError
from bench.plugins.fingerprint import _hash_files
from bench.store.run import read_run
from bench.summary.summary import summarise
from bench.sweep import preset
from bench.sweep.plan import make_plan, manifest
from bench.sweep.resolved import PlanError


def planned(path, **overrides):
    return make_plan(preset.load_preset(str(path), overrides), "cpu")


def cells_without_code(found):
    """The cells as they are stored, without hashes of code, which change with it."""
    return [{k: v for k, v in json.loads(cell.to_json()).items() if k != "hashes"} for cell in found.cells]


def test_options_that_are_off_leave_cells_as_they_were_before_there_were_such_options(tiny_preset):
    path = tiny_preset(purifiers=["onestep-edm", "onestep-ddpm", "consistency", "pf-ode"])
    parameters = [cell["parameters"] for cell in cells_without_code(planned(path))]
    assert parameters == [{}, {}, {"steps": 1}, {"steps": 4}]
    assert set(planned(path).cells[0].classifier_parameters) == {"path"}


def test_an_option_that_is_on_makes_another_cell_of_its_purifier_alone(tiny_preset):
    plain = planned(tiny_preset("plain", purifiers=["none", "onestep-edm"])).cells
    quirky = planned(tiny_preset("quirky", purifiers=["none", "onestep-edm:conditioning=karras18"])).cells
    assert plain[0].key == quirky[0].key and plain[1].key != quirky[1].key
    assert quirky[1].label == "onestep-edm(conditioning=karras18)"


def test_how_images_are_picked_and_radii_written_is_no_part_of_a_cell(tiny_preset):
    plain = planned(tiny_preset("plain", images=3))
    strided = planned(tiny_preset("strided", images=3, every=100, radius_digits=3))
    assert (plain.images, strided.images) == ([0, 1, 2], [0, 100, 200])
    assert [cell.key for cell in plain.cells] == [cell.key for cell in strided.cells]


def test_a_stride_with_too_few_images_is_refused(tiny_preset):
    with pytest.raises(InputError, match="every 400 images there are 2 of the 500 of mnist5k, and 3 were requested"):
        planned(tiny_preset(every=400))


UNSURE = """
from dataclasses import dataclass
from classifiers.base import Classifier

@dataclass(frozen=True)
class Unsure(Classifier):
    # class 0 unless noise pulls the mean of some dark pixels down: about nine times in ten at sigma = 0.5
    name = "unsure"
    source = "a test"

    def load(self, device="cpu"):
        zero, one = lambda x: 0 * x[:, 0, 0, 0], lambda x: x[:, 0, 0, :4].mean(1) + 0.3
        return lambda x: __import__("torch").stack([one(x), zero(x), *[zero(x) - 9] * 8], 1)
"""


def test_a_run_with_three_digits_counts_the_same_and_shows_rounded_radii(cli, tiny_preset, tmp_path):
    (tmp_path / "unsure.py").write_text(UNSURE)
    fields = {"purifiers": ["none"], "images": 6, "n": 200, "classifier": {"name": str(tmp_path / "unsure.py")}}
    for name, digits in (("full", None), ("printed", 3)):
        assert not cli("run", tiny_preset(name, **fields, radius_digits=digits), "--out", tmp_path / name).exit_code
    full, printed = (summarise([read_run(tmp_path / name)]) for name in ("full", "printed"))
    radii, rounded = (found.certificates["radius"].tolist() for found in (full, printed))
    assert min(radii) > 0 and len(set(radii)) > 1
    assert rounded == [float(f"{radius:.3}") for radius in radii] != radii
    assert full.certificates["p_lower"].tolist() == printed.certificates["p_lower"].tolist()
    assert "radii rounded to 3 digits" in printed.table["rule"][0]


def test_the_manifest_records_the_data_and_what_is_done_to_them(tiny_preset):
    found = manifest(planned(tiny_preset()), ["cpu"])
    assert (found["data"], found["preprocessing"]) == ("MNIST", {})


def test_every_file_of_a_classifier_is_part_of_a_cell(tiny_preset, tmp_path):
    """A plugin whose result depends on two files: changing either makes other cells."""
    (tmp_path / "a.bin").write_bytes(b"a")
    (tmp_path / "b.bin").write_bytes(b"b")
    (tmp_path / "two.py").write_text(
        "from dataclasses import dataclass\nfrom pathlib import Path\nfrom classifiers.base import Classifier\n\n"
        "@dataclass(frozen=True)\nclass Two(Classifier):\n    name = 'two'\n    source = ''\n\n"
        "    def files(self, download=True):\n"
        "        return tuple(Path(__file__).parent / n for n in ('a.bin', 'b.bin'))\n"
    )
    path = tiny_preset(classifier={"name": str(tmp_path / "two.py")})
    keys = [planned(path).cells[0].key]
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"changed")
        keys.append(planned(path).cells[0].key)
    assert len(set(keys)) == 3
    (tmp_path / "b.bin").unlink()
    with pytest.raises(PlanError, match=r"b\.bin is missing"):
        planned(path)


def test_a_classifier_that_cannot_be_had_is_refused_before_anything_is_loaded(tiny_preset, tmp_path):
    with pytest.raises(PlanError, match=r"classifier 'resnet-cifar': .*absent\.safetensors is missing"):
        planned(tiny_preset(classifier={"name": "resnet-cifar", "path": str(tmp_path / "absent.safetensors")}))


def test_the_hash_of_code_is_of_what_it_does(tmp_path):
    first, second = tmp_path / "a.py", tmp_path / "b.py"
    first.write_text('"""One."""\nx = 1  # a comment\n')
    second.write_text('"""Another."""\n\n\nx = 1\n')
    assert _hash_files([first]) == _hash_files([second])
