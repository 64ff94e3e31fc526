"""A preset of somebody else's runs no code that lies elsewhere, and shows what it reads from elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cli.shell import announce
from bench.store.run import read_run
from bench.sweep import preset as presets
from bench.sweep.preset import PresetError

OK, REFUSED = 0, 2
PURIFIER = """
from dataclasses import dataclass
from pathlib import Path
from purifiers.base import Purifier

Path({ran!r}).touch()

@dataclass(frozen=True)
class Mine(Purifier):
    name = "mine"
    gain: float = 1.0

    def purify(self, x, sigma, networks, rng):
        return (self.gain * x).clamp(0, 1)
"""
CLASSIFIER = """
from dataclasses import dataclass
from pathlib import Path
from classifiers.base import Classifier

Path({ran!r}).touch()

@dataclass(frozen=True)
class Theirs(Classifier):
    name = "theirs"
    source = "a test"

    def load(self, device="cpu"):
        return lambda x: x.flatten(1)[:, 300:310]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """The working directory, an empty one; beside it are `presets`, with the preset, and `elsewhere`."""
    for name in ("here", "presets", "elsewhere"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


@pytest.fixture
def ran(place: Path):
    """Whether any plugin's code ran."""
    return (place / "ran").exists


@pytest.fixture
def write(place: Path, tiny_preset):
    """Write plugins into a folder, and a preset into `presets`: `write("elsewhere", purifiers=["none"])`."""

    def make(folder: str, **fields) -> Path:
        (place / folder / "mine.py").write_text(PURIFIER.format(ran=str(place / "ran")))
        (place / folder / "theirs.py").write_text(CLASSIFIER.format(ran=str(place / "ran")))
        path = place / "presets" / "theirs.toml"
        path.write_text(tiny_preset(**fields).read_text())
        return path

    return make


def fields_of(value: str, form: str) -> dict:
    """The same path as presets may write it."""
    named = {"name": value, "gain": 0.5}
    return {
        "text": {"purifiers": ["none", f"{value}:gain=0.5"]},
        "comma": {"purifiers": f"none, {value}:gain=0.5"},
        "table": {"purifiers": ["none", named]},
        "classifier": {"classifier": {"name": value.replace("mine", "theirs")}},
    }[form]


FORMS = ["text", "comma", "table", "classifier"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["../elsewhere/mine.py", "{place}/elsewhere/mine.py", "link.py"])
def test_code_outside_of_a_presets_folder_is_refused_before_it_runs(cli, place, write, ran, form, value):
    named = value.format(place=place)
    path = write("elsewhere", **fields_of(named, form))
    if value == "link.py":
        target = place / "elsewhere" / ("theirs.py" if form == "classifier" else "mine.py")
        (place / "presets" / "link.py").symlink_to(target)
    result = cli("run", path, "--out", place / "out")
    assert result.exit_code == REFUSED
    assert "would run code outside of its folder" in result.stderr and str(place / "elsewhere") in result.stderr
    assert ("--classifier" if form == "classifier" else "--purifiers") in result.stderr
    assert not ran() and not (place / "out").exists()


@pytest.mark.parametrize("form", FORMS)
def test_code_beside_a_preset_is_found_from_anywhere_and_named_before_it_runs(cli, place, write, ran, form):
    path = write("presets", **fields_of("mine.py", form))
    result = cli("run", path, "--out", place / "out", "--no-plots")
    assert result.exit_code == OK, result.output
    assert f"runs code of {place / 'presets'}" in result.stderr and ran()
    if form != "classifier":
        assert [cell.label for cell in read_run(place / "out").cells.values()] == ["none", "mine(gain=0.5)"]


def test_code_of_the_current_folder_may_be_named(cli, place, write, ran):
    path = write("here", purifiers=["mine.py"])
    assert cli("run", path, "--out", place / "out", "--no-plots").exit_code == OK and ran()


def test_who_names_code_on_the_command_line_runs_it_wherever_it_lies(cli, place, write, ran):
    path = write("elsewhere", purifiers=["../elsewhere/mine.py"])
    named = place / "elsewhere" / "mine.py"
    result = cli("run", path, "--purifiers", named, "--out", place / "out", "--no-plots")
    assert result.exit_code == OK and ran() and f"runs code of {named}" in result.stderr


def test_a_preset_that_is_extended_may_name_code_only_of_the_folder_that_the_user_named(place, write, tiny_preset):
    """Whoever names a preset has looked into its folder, and not into those of the presets that it extends."""
    (place / "presets" / "below").mkdir()
    for folder in ("elsewhere", "presets/below"):
        write(folder)
        (place / folder / "base.toml").write_text(tiny_preset(purifiers=["mine.py"]).read_text())
    path = place / "presets" / "extending.toml"
    path.write_text('extends = "below/base.toml"\n')
    (purifier,) = presets.load_preset(str(path), {}).purifiers
    assert Path(purifier.name) == place / "presets" / "below" / "mine.py"
    path.write_text('extends = "../elsewhere/base.toml"\n')
    with pytest.raises(PresetError, match=r"base\.toml would run code outside of .*presets, the folder .*mine\.py"):
        presets.load_preset(str(path), {})
    chosen = presets.load_preset(str(path), {"purifiers": "none"})
    assert [purifier.name for purifier in chosen.purifiers] == ["none"]


def said_of_reach(result) -> list[str]:
    assert result.exit_code == OK, result.output
    return [line for line in result.stderr.splitlines() if "reads files outside of its folder" in line]


def test_files_that_are_read_from_outside_are_shown(cli, place, write, tiny_zoo):
    path = write("presets", purifiers=["none", "onestep-edm"], networks={"edm": str(tiny_zoo / "edm.safetensors")})
    (line,) = said_of_reach(cli("run", path, "--out", place / "out", "--no-plots"))
    assert str(path) in line and str(tiny_zoo / "edm.safetensors") in line
    assert str(tiny_zoo / "classifier.safetensors") in line
    inside = path.with_name("inside.toml")
    os.makedirs(place / "presets" / "weights")
    for name in ("edm", "classifier"):
        for suffix in (".safetensors", ".json"):
            (place / "presets" / "weights" / f"{name}{suffix}").write_bytes((tiny_zoo / f"{name}{suffix}").read_bytes())
    inside.write_text(path.read_text().replace(str(tiny_zoo), str(place / "presets" / "weights")))
    assert "outside of its folder" not in cli("run", inside, "--out", place / "out", "--no-plots").stderr


def test_presets_that_are_extended_and_paths_among_parameters_are_shown_where_they_lie_outside(cli, place, write):
    path = write("presets")
    for name in ("near", "far"):
        (place / ("presets" if name == "near" else "elsewhere") / f"{name}.toml").write_text(path.read_text())
    table = place / "elsewhere" / "table.npz"
    table.write_bytes(b"")
    mine = PURIFIER.replace("gain: float = 1.0", "gain: float = 1.0\n    tables: tuple[str, ...] = ()")
    (place / "presets" / "mine.py").write_text(mine.format(ran=str(place / "ran")))
    purifiers = [{"name": "mine.py", "tables": [str(table), "x" * 300, "~nobody/x"]}]
    from conftest import toml

    path.write_text(f'extends = "near.toml"\npurifiers = {toml(purifiers)}\n')
    (place / "presets" / "near.toml").write_text('extends = "../elsewhere/far.toml"\n')
    (line,) = said_of_reach(cli("run", path, "--out", place / "out", "--no-plots"))
    assert "far.toml" in line and str(table) in line and "near.toml" not in line
    named = place / "presets" / "mine.py"
    (line,) = said_of_reach(cli("run", path, "--purifiers", named, "--out", place / "named", "--no-plots"))
    assert "far.toml" in line and str(table) not in line


def test_the_presets_that_come_with_the_project_reach_for_nothing(cli):
    for name in presets.names():
        chosen = presets.load_preset(name, {})
        assert not any(plugin.name.endswith(".py") for plugin in (chosen.classifier, *chosen.purifiers))


@pytest.mark.parametrize("purifiers", [3, [3], [None], {"name": "none"}, [[]]])
def test_what_is_no_list_of_purifiers_is_refused_by_its_field(place, purifiers):
    path = place / "presets" / "odd.toml"
    from conftest import toml

    text = toml(purifiers) if purifiers != [None] else "[{}]"
    path.write_text(f'dataset = "mnist5k"\nclassifier = "cnn"\nsigmas = [0.5]\npurifiers = {text}\n')
    with pytest.raises(PresetError, match="purifiers"):
        presets.load_preset(str(path), {})


def test_images_that_lie_here_and_not_beside_the_preset_are_named(tmp_path, monkeypatch, capsys):
    file = tmp_path / "there" / "mine.toml"
    file.parent.mkdir()
    file.write_text('extends = "embedded"\ndataset = "folder"\ndata = "photos"\n')
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    announce(file, presets.load_preset(str(file), {}), ())
    assert f"images of {tmp_path / 'photos'}: there are none" in capsys.readouterr().err
    (file.parent / "photos").mkdir()
    announce(file, presets.load_preset(str(file), {}), ())
    announce(file, presets.load_preset(str(file), {"data": "photos"}), ("data",))
    assert "images of" not in capsys.readouterr().err
