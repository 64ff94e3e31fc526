"""`new-purifier` writes a plugin that works at once, with a test that passes, and overwrites nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

from bench.attack import ATTACK_CHECKS
from bench.cli.scaffold import ScaffoldError, write_plugin
from bench.plugins import registry as plugins
from bench.testing import CLASSIFIER_CHECKS, PURIFIER_CHECKS, keeps_the_contract, logits_keep_the_contract

OK, REFUSED = 0, 2


@pytest.fixture
def folders(tmp_path):
    """A project of someone else: `(purifiers, tests)`."""
    made = tmp_path / "purifiers", tmp_path / "tests"
    for folder in made:
        folder.mkdir()
    return made


def new(cli, name, folders):
    return cli("new-purifier", name, "--folder", folders[0], "--tests", folders[1])


@pytest.mark.parametrize(
    ("command", "checks"),
    [("new-purifier", PURIFIER_CHECKS), ("new-classifier", CLASSIFIER_CHECKS), ("new-attack", ATTACK_CHECKS)],
)
def test_the_written_test_passes_and_covers_every_check(cli, folders, command, checks):
    result = cli(command, "my-plugin", "--folder", folders[0], "--tests", folders[1])
    assert result.exit_code == OK, result.output
    assert str(folders[0] / "my_plugin.py") in result.stdout
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", folders[1] / "test_my_plugin.py"],
        cwd=folders[0],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(checks)} passed" in done.stdout


def test_the_written_test_fails_when_the_classifier_mixes_rows(folders):
    plugin, test = write_plugin(plugins.CLASSIFIER, "my-classifier", *folders)
    scope: dict = {"__file__": str(test)}
    exec(compile(test.read_text(), test, "exec"), scope)
    scope["test_my_classifier_conforms"](logits_keep_the_contract)
    plugin.write_text(
        plugin.read_text().replace(
            "network(x.mean(1, keepdim=True))", "network(x.mean((0, 1))[None, None].expand(len(x), -1, -1, -1))"
        )
    )
    with pytest.raises(AssertionError, match="depends on the rows beside it"):
        scope["test_my_classifier_conforms"](logits_keep_the_contract)


def test_the_written_classifier_votes_in_a_sweep(cli, tiny_preset, tmp_path, folders):
    plugin, _ = write_plugin(plugins.CLASSIFIER, "my-classifier", *folders)
    result = cli("run", tiny_preset(), "--classifier", plugin, "--out", tmp_path / "out", "--no-plots")
    assert result.exit_code == OK, result.output
    assert f"runs code of {plugin}" in result.stderr
    assert {row["images"] for row in json.loads(cli("summary", tmp_path / "out", "--json").stdout)["rows"]} == {3}


def test_the_written_test_fails_when_the_plugin_breaks_its_contract(folders):
    plugin, test = write_plugin(plugins.PURIFIER, "my-purifier", *folders)
    scope: dict = {"__file__": str(test)}
    exec(compile(test.read_text(), test, "exec"), scope)
    conforms = scope["test_my_purifier_conforms"]
    conforms(keeps_the_contract)
    plugin.write_text(plugin.read_text().replace("range(self.draws - 1)", "range(self.draws)"))
    with pytest.raises(AssertionError, match=r"measured 3 NFE, documented 2"):
        conforms(keeps_the_contract)


@pytest.mark.parametrize("name", ["x", "my-purifier", "a1-b2-c3", "with-a-very-long-name-of-many-words"])
def test_what_is_written_is_a_plugin_of_that_name_in_the_house_style(folders, name):
    plugin, test = write_plugin(plugins.PURIFIER, name, *folders)
    found = plugins.from_path(plugins.PURIFIER, plugin)
    assert found.name == name
    assert plugins.create(plugins.PURIFIER, str(plugin), {"draws": "3"}).nfe() == 3
    for path in (plugin, test):
        assert max(map(len, path.read_text().splitlines())) <= 120
        compile(path.read_text(), path, "exec")


def test_the_written_plugin_runs_in_a_sweep_by_path(cli, tiny_preset, tmp_path, folders):
    plugin, _ = write_plugin(plugins.PURIFIER, "my-purifier", *folders)
    given = ["--purifiers", f"none,{plugin},{plugin}:draws=3", "--out", tmp_path / "out", "--no-plots"]
    result = cli("run", tiny_preset(), *given)
    assert result.exit_code == OK, result.output
    rows = json.loads(cli("summary", tmp_path / "out", "--json").stdout)["rows"]
    assert [(row["purifier"], row["parameters"], row["nfe"], row["images"]) for row in rows] == [
        ("none", "", 0, 3),
        ("my-purifier", "draws=2", 2, 3),
        ("my-purifier", "draws=3", 3, 3),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "My-Purifier",
        "my_purifier",
        "my purifier",
        "-x",
        "x-",
        "a--b",
        "1st",
        "class",
        "../x",
        "a/b",
        "x.py",
        "é",
        "x\n",
    ],
)
def test_a_name_that_is_none_is_refused_with_an_example(cli, folders, name):
    result = cli("new-purifier", "--folder", folders[0], "--tests", folders[1], "--", name)
    assert result.exit_code == REFUSED
    assert "no plugin name" in result.stderr and "my-purifier" in result.stderr
    assert not any([*folders[0].iterdir(), *folders[1].iterdir()])


@pytest.mark.parametrize("name", ["none", "onestep-edm", "pf-ode-torchdiffeq"])
def test_the_name_of_a_known_purifier_is_refused(cli, folders, name):
    result = new(cli, name, folders)
    assert result.exit_code == REFUSED
    assert f"{name!r} exists already" in result.stderr
    assert not any(folders[0].iterdir())


@pytest.mark.parametrize("which", [0, 1])
def test_a_file_that_is_there_is_left_alone(cli, folders, which):
    mine = folders[which] / ("my_purifier.py" if which == 0 else "test_my_purifier.py")
    mine.write_text("mine")
    result = new(cli, "my-purifier", folders)
    assert result.exit_code == REFUSED
    assert str(mine) in result.stderr and "exists already" in result.stderr
    assert mine.read_text() == "mine"
    assert not any(folders[1 - which].iterdir())


def test_a_folder_of_the_name_would_hide_the_file_and_is_refused(folders):
    (folders[0] / "nets").mkdir()
    with pytest.raises(ScaffoldError, match="is a folder, which hides"):
        write_plugin(plugins.PURIFIER, "nets", *folders)


def test_a_folder_that_is_absent_is_named_with_the_options(cli, tmp_path, folders):
    for pair in ((tmp_path / "absent", folders[1]), (folders[0], tmp_path / "absent")):
        result = new(cli, "my-purifier", pair)
        assert result.exit_code == REFUSED
        assert f"{tmp_path / 'absent'} is not a folder" in result.stderr and "--folder" in result.stderr
    assert not any([*folders[0].iterdir(), *folders[1].iterdir()])


def test_a_purifier_that_is_dropped_into_the_package_is_found(monkeypatch, folders):
    import purifiers

    write_plugin(plugins.PURIFIER, "dropped-in", *folders)
    monkeypatch.setattr(purifiers, "__path__", [*purifiers.__path__, str(folders[0])])
    monkeypatch.delitem(sys.modules, "purifiers.dropped_in", raising=False)
    assert "dropped-in" in plugins.discover(plugins.PURIFIER)
    by_path = plugins._find(plugins.PURIFIER, str(folders[0] / "dropped_in.py"))
    assert by_path.name == "dropped-in"  # the same file by its path is no second plugin
    sys.modules.pop("purifiers.dropped_in", None)


def installed(package, site):
    """Describe a package in `site`, as an installation does, with the entry points of its pyproject.toml."""
    project = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    facts = site / f"{package.name.replace('-', '_')}-{project['version']}.dist-info"
    facts.mkdir(parents=True)
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [
        line
        for group, points in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in points.items()))
    ]
    (facts / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def test_a_written_package_passes_its_tests_and_is_found_where_it_is_installed(cli, tmp_path):
    result = cli("new-package", "fresh-package", "--folder", tmp_path)
    assert result.exit_code == OK, result.output
    package = tmp_path / "fresh-package"
    assert str(package) in result.stdout and "entry-points" in (package / "pyproject.toml").read_text()
    site = installed(package, tmp_path / "site")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=package,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (ROOT, site))), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert f"{len(PURIFIER_CHECKS) + len(CLASSIFIER_CHECKS) + 1} passed" in done.stdout  # none is skipped


@pytest.mark.parametrize(
    ("name", "said"),
    [("My_Package", "no package name"), ("onestep-edm", "exists already"), ("torch", "there is a module 'torch'")],
)
def test_a_package_of_a_name_that_cannot_be_used_is_refused(cli, tmp_path, name, said):
    result = cli("new-package", name, "--folder", tmp_path)
    assert result.exit_code == REFUSED and said in result.stderr
    assert not any(tmp_path.iterdir())


def test_a_package_whose_folder_is_there_is_refused(cli, tmp_path):
    (tmp_path / "fresh-package").mkdir()
    result = cli("new-package", "fresh-package", "--folder", tmp_path)
    assert result.exit_code == REFUSED and "exists already" in result.stderr
