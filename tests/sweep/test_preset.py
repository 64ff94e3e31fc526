"""Sweeps as data: fields are checked and named, texts are understood, overrides replace."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.sweep import preset
from bench.sweep.preset import Preset, PresetError


def test_the_embedded_preset_asks_for_every_family_of_purifiers():
    from bench.plugins.registry import PURIFIER, discover

    embedded, found = preset.load_preset("embedded", {}), discover(PURIFIER)
    assert {found[p.name].family for p in embedded.purifiers} == {plugin.family for plugin in found.values()}
    assert (embedded.dataset, embedded.images) == ("mnist5k", 500)


@pytest.mark.parametrize("name", preset.names())
def test_every_preset_names_networks_for_all_that_its_purifiers_ask_for(name):
    from bench.plugins.registry import PURIFIER, create

    chosen = preset.load_preset(name, {})
    for plugin in chosen.purifiers:
        assert set(create(PURIFIER, plugin.name, plugin.parameters).networks) <= set(chosen.networks)


def test_an_unknown_preset_answers_with_the_nearest_name_and_the_list():
    with pytest.raises(PresetError, match=r"unknown preset 'embeded'. Did you mean 'embedded'\? Known: .*embedded"):
        preset.load_preset("embeded", {})


def test_a_preset_file_that_is_absent_is_named(tmp_path):
    with pytest.raises(PresetError, match=r"absent\.toml is not a file"):
        preset.load_preset(str(tmp_path / "absent.toml"), {})


@pytest.mark.parametrize("content", [b"sigmas = [0.5", b"\xff\xfe\x00", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_named(tmp_path, content):
    (tmp_path / "broken.toml").write_bytes(content)
    with pytest.raises(PresetError, match=r"broken\.toml cannot be read"):
        preset.load_preset(str(tmp_path / "broken.toml"), {})


def test_a_folder_called_like_a_preset_is_named(tmp_path):
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(PresetError, match=r"folder\.toml is not a file"):
        preset.load_preset(str(tmp_path / "folder.toml"), {})


def test_an_unknown_field_answers_with_the_nearest_name_and_the_list(tiny_preset):
    with pytest.raises(PresetError, match=r"unknown field 'sigma'. Did you mean 'sigmas'\? Known: .*alpha.*workers"):
        preset.load_preset(str(tiny_preset(sigma=[0.5])), {})


def test_all_wrong_fields_are_named_at_once(tiny_preset):
    with pytest.raises(PresetError) as refusal:
        preset.load_preset(str(tiny_preset(n=0, alpha=1.5, imags=3)), {})
    for part in ("n: ", "got 0", "alpha: ", "got 1.5", "'imags'", "'images'"):
        assert part in str(refusal.value)


@pytest.mark.parametrize("field", ["dataset", "classifier", "purifiers", "sigmas"])
def test_a_missing_field_is_named_without_repeating_the_preset(tiny_preset, field):
    with pytest.raises(PresetError, match=rf"^{field}: Field required") as refusal:
        preset.load_preset(str(tiny_preset(**{field: None})), {})
    assert "Tiny" not in str(refusal.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("sigmas", []),
        ("sigmas", [0.5, 0.0]),
        ("sigmas", [-0.5]),
        ("sigmas", "nan"),
        ("sigmas", "inf"),
        ("sigmas", ""),
        ("sigmas", "0.5;1"),
        ("alpha", 0),
        ("alpha", 1),
        ("alpha", -0.1),
        ("alpha", float("nan")),
        ("n0", 0),
        ("n", 0),
        ("n", -1),
        ("n", 10.5),
        ("images", 0),
        ("images", -5),
        ("radii", [-0.25]),
        ("radii", ""),
        ("purifiers", []),
        ("purifiers", ","),
        ("purifiers", [{"steps": 4}]),
        ("purifiers", [3]),
        ("precision", "int8"),
        ("compile", "yes"),
        ("rows", 0),
        ("device", "gpu"),
        ("workers", -1),
        ("batch", 0),
        ("timeout", 0),
        ("timeout", float("inf")),
        ("block", 0),
        ("seed", -1),
        ("networks", ["edm"]),
        ("classifier", {}),
        ("name", "../elsewhere"),
        ("name", ".."),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_the_name_of_its_field(tiny_preset, field, value):
    with pytest.raises(PresetError, match=rf"^{field}\b"):
        preset.load_preset(str(tiny_preset()), {field: value})


def test_overrides_replace_fields_and_none_leaves_them(tiny_preset):
    path = str(tiny_preset(n=20, seed=7))
    chosen = preset.load_preset(path, {"n": 40, "sigmas": "0.25, 1", "purifiers": "none,pf-ode:steps=8", "seed": None})
    assert (chosen.n, chosen.n0, chosen.seed, chosen.sigmas) == (40, 4, 7, [0.25, 1.0])
    assert [(p.name, p.parameters) for p in chosen.purifiers] == [("none", {}), ("pf-ode", {"steps": "8"})]


def test_a_plugin_is_read_from_text_and_from_a_table_alike(tiny_preset):
    path = str(tiny_preset(purifiers=["pf-ode:steps=8", {"name": "pf-ode", "steps": 8}, "./mine.py:a=b=c:d="]))
    text, table, file = preset.load_preset(path, {}).purifiers
    assert (text.name, text.parameters) == ("pf-ode", {"steps": "8"})
    assert (table.name, table.parameters) == ("pf-ode", {"steps": 8})
    assert (file.name, file.parameters) == ("./mine.py", {"a": "b=c", "d": ""})


def test_a_plugin_with_a_parameter_that_has_no_value_says_how_to_write_it(tiny_preset):
    with pytest.raises(PresetError, match=r"'pf-ode:steps' is not of the form name:parameter=value"):
        preset.load_preset(str(tiny_preset()), {"purifiers": "pf-ode:steps"})


def test_a_preset_is_named_after_its_file_unless_it_says_otherwise(tiny_preset):
    assert preset.load_preset(str(tiny_preset("some-sweep")), {}).name == "some-sweep"
    assert preset.load_preset(str(tiny_preset("some-sweep", name="another")), {}).name == "another"


def test_a_preset_survives_the_manifest():
    embedded = preset.load_preset("embedded", {})
    assert Preset(**embedded.model_dump(mode="json")) == embedded


def test_a_preset_may_extend_another_and_says_only_what_differs(tiny_preset, tmp_path):
    tiny_preset("base", n=30, seed=3)
    (tmp_path / "mine.toml").write_text('extends = "base.toml"\nn = 50\n')
    mine, base = (
        preset.load_preset(str(tmp_path / "mine.toml"), {}),
        preset.load_preset(str(tmp_path / "base.toml"), {}),
    )
    assert mine == base.model_copy(update={"name": "mine", "n": 50})
    full, embedded = preset.load_preset("embedded-full", {}), preset.load_preset("embedded", {})
    assert (full.certifier, embedded.certifier) == ("tight", "cohen")
    assert full.purifiers == embedded.purifiers
    (tmp_path / "base.toml").write_text('extends = "mine.toml"\n')
    with pytest.raises(PresetError, match="extends itself"):
        preset.load_preset(str(tmp_path / "mine.toml"), {})
    (tmp_path / "mine.toml").write_text('extends = "embeded"\n')
    with pytest.raises(PresetError, match="Did you mean 'embedded'"):
        preset.load_preset(str(tmp_path / "mine.toml"), {})


def test_the_sequential_rule_is_the_default_and_its_short_name_is_known(tiny_preset):
    assert preset.load_preset(str(tiny_preset(certifier=None, n=None)), {}).certifier == "tight"
    with pytest.raises(PresetError, match=r"names n, which the certifier 'tight' does not take.*n_max"):
        preset.load_preset(str(tiny_preset(certifier=None, n=100)), {})
    assert preset.load_preset(str(tiny_preset()), {"certifier": "sequential"}).certifier == "tight"
    with pytest.raises(PresetError, match=r"certifier: unknown certifier 'tihgt'. Did you mean 'tight'\?"):
        preset.load_preset(str(tiny_preset()), {"certifier": "tihgt"})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"certifier": "tight", "n": 100}, "n: the certifier 'tight' does not take it; n_max bounds its draws"),
        ({"certifier": "anytime", "n_max": 100}, "n_max: the certifier 'anytime' does not take it; n bounds"),
        ({"certifier": "cohen", "label_aware": True}, "label_aware stops images early, which .*'cohen' never does"),
        ({"certifier": "fast", "alpha": 0.6}, "alpha must be below 0.5"),
    ],
)
def test_a_field_that_the_rule_does_not_take_is_refused(tiny_preset, fields, said):
    with pytest.raises(PresetError, match=f"^{said}"):
        preset.load_preset(str(tiny_preset()), fields)


def test_choices_are_made_on_validation_images_and_are_cells_of_their_own(tiny_preset):
    from bench import data
    from bench.sweep.plan import make_plan, manifest

    plans = {s: make_plan(preset.load_preset(str(tiny_preset()), {"split": s}), "cpu") for s in ("test", "val")}
    val = data.load("mnist5k", "val")
    assert all((plans["val"].split.images[i] == val.images[i]).all() for i in plans["val"].images)
    assert {cell.split for cell in plans["val"].cells} == {"val"}
    assert not {cell.key for cell in plans["val"].cells} & {cell.key for cell in plans["test"].cells}
    assert manifest(plans["val"], ["cpu"])["data"].endswith(", val images")


def test_extends_that_is_no_text_is_refused_by_the_file(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text("extends = true\n")
    with pytest.raises(PresetError, match=r"mine\.toml: extends must be"):
        preset.load_preset(str(path), {})


def test_data_are_found_beside_the_preset_and_a_folder_on_the_command_line_from_here(tmp_path, monkeypatch):
    """A preset that extends another one keeps the data beside that one."""
    (tmp_path / "there" / "photos").mkdir(parents=True)
    file = tmp_path / "there" / "mine.toml"
    file.write_text('extends = "embedded"\ndataset = "folder"\ndata = "photos"\n')
    (tmp_path / "other.toml").write_text('extends = "there/mine.toml"\n')
    monkeypatch.chdir(tmp_path)
    assert preset.load_preset("there/mine.toml", {}).data == str(Path("there/photos"))
    assert preset.load_preset("other.toml", {}).data == str(Path("there/photos"))
    assert preset.load_preset(str(file), {}).data == str(tmp_path / "there" / "photos")
    assert preset.load_preset("there/mine.toml", {"data": "photos"}).data == "photos"
    file.write_text('extends = "embedded"\ndata = "elsewhere"\n')  # not beside it: from the current folder, as ever
    assert preset.load_preset(str(file), {}).data == "elsewhere"
