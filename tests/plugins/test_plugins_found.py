"""Plugins are found by path and among what is installed; files that are none are refused by name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from command import OK, REFUSED, run
from plugin_texts import PURIFIER

from bench.plugins import registry as plugins
from bench.store.run import read_run


def test_plugins_given_by_path_take_their_parameters_from_text(cli, tiny_preset, tmp_path, purifier_file):
    plugin = purifier_file("return (self.gain * x).clamp(0, 1)", fields="gain: float = 1.0", name="gain")
    result = run(cli, tiny_preset(), "--purifiers", f"{plugin}:gain=0.5,{plugin}", "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output
    assert [c.label for c in read_run(tmp_path / "out").cells.values()] == ["gain(gain=0.5)", "gain(gain=1.0)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import no_such_module", "no_such_module"),
        ("def (", "SyntaxError"),
        ("raise SystemError('no')", "SystemError: no"),
        ("x = 1", "must define exactly one Purifier"),
        (
            PURIFIER.format(name="a", body="pass", fields="")
            + PURIFIER.format(name="b", body="pass", fields="").replace("class Broken", "class Other"),
            "must define exactly one Purifier",
        ),
    ],
)
def test_a_file_that_is_no_plugin_is_refused_by_its_path(cli, tiny_preset, tmp_path, text, said):
    (tmp_path / "mine.py").write_text(text)
    result = run(cli, tiny_preset(purifiers=[str(tmp_path / "mine.py")]), "--out", tmp_path / "out")
    assert result.exit_code == REFUSED
    assert str(tmp_path / "mine.py") in result.stderr and said in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "body", ["raise ValueError('steps and order clash')", "raise TypeError('steps and order clash')"]
)
def test_parameters_that_a_plugin_refuses_are_refused_in_its_words(cli, tiny_preset, purifier_file, body):
    fields = f"steps: int = 4\n\n    def __post_init__(self):\n        {body}"
    result = run(cli, tiny_preset(purifiers=[str(purifier_file("return x", fields=fields))]))
    assert result.exit_code == REFUSED
    assert "refuses its parameters" in result.stderr and "steps and order clash" in result.stderr


def entry_point(thing, name="theirs"):
    def load():
        if isinstance(thing, Exception):
            raise thing
        return thing

    return SimpleNamespace(name=name, value="their_package.purifier", load=load)


@pytest.fixture
def install(monkeypatch):
    """Make things look installed as purifiers of third parties."""

    def as_entry_points(*things):
        points = {"purifybench.purifiers": [entry_point(thing) for thing in things]}
        monkeypatch.setattr(plugins, "entry_points", lambda group: points.get(group, []))
        monkeypatch.setattr(plugins, "_installed", plugins._installed.__wrapped__)  # looks again at every call

    return as_entry_points


def test_an_installed_plugin_is_found_as_a_class_and_as_a_module(install, purifier_file):
    as_class = plugins.from_path(plugins.PURIFIER, purifier_file("return x", name="as-class", file="one.py"))
    in_module = plugins.from_path(plugins.PURIFIER, purifier_file("return x", name="in-module", file="two.py"))
    import sys

    install(as_class, sys.modules[in_module.__module__])
    found = plugins.discover(plugins.PURIFIER)
    assert found["as-class"] is as_class and found["in-module"] is in_module and "onestep-edm" in found
    assert "as-class" not in plugins.discover(plugins.CLASSIFIER)


@pytest.mark.parametrize(
    "thing",
    [ImportError("no module named their_dependency"), RuntimeError("their_dependency is old"), object, 3, dict],
)
def test_a_broken_installed_plugin_is_named_with_its_package_by_every_command(cli, tiny_preset, install, thing):
    install(thing)
    for command in (("run", tiny_preset()), ("list",), ("new-purifier", "my-purifier")):
        result = cli(*command)
        assert result.exit_code == REFUSED
        assert "'theirs' of their_package.purifier" in result.stderr
        assert "mend or uninstall its package" in result.stderr


def test_a_broken_file_in_the_package_is_named(monkeypatch, tmp_path):
    import purifiers

    (tmp_path / "half_written.py").write_text("from purifiers.base import Purifyer\n")
    monkeypatch.setattr(purifiers, "__path__", [*purifiers.__path__, str(tmp_path)])
    with pytest.raises(plugins.PluginError, match=r"half_written.*cannot be imported.*Purifyer"):
        plugins.discover(plugins.PURIFIER)


def test_two_installed_plugins_of_one_name_are_refused_with_both_files(install, purifier_file):
    one, two = (plugins.from_path(plugins.PURIFIER, purifier_file("return x", file=f"{n}.py")) for n in ("one", "two"))
    install(one, two)
    with pytest.raises(plugins.PluginError, match=r"two purifiers are called 'broken': .*one\.py and .*two\.py"):
        plugins.discover(plugins.PURIFIER)


def test_an_installed_plugin_cannot_take_the_name_of_ours(install, purifier_file):
    install(plugins.from_path(plugins.PURIFIER, purifier_file("return x", name="none")))
    with pytest.raises(plugins.PluginError, match=r"two purifiers are called 'none': .*none\.py and .*plugin\.py"):
        plugins.discover(plugins.PURIFIER)


def test_a_plugin_given_by_path_cannot_take_the_name_of_a_known_one(cli, tiny_preset, tmp_path, purifier_file):
    plugin = purifier_file("return x.clamp(0, 1)", name="onestep-edm")
    for purifiers in ([str(plugin)], ["onestep-edm", str(plugin)]):
        result = run(cli, tiny_preset(purifiers=purifiers), "--out", tmp_path / "out")
        assert result.exit_code == REFUSED
        assert "'onestep-edm'" in result.stderr and str(plugin) in result.stderr and "rename" in result.stderr


def test_two_plugins_given_by_path_cannot_share_a_name(cli, tiny_preset, tmp_path, purifier_file):
    one = purifier_file("return x.clamp(0, 1)", name="mine", file="one.py")
    two = purifier_file("return 1 - x.clamp(0, 1)", name="mine", file="two.py")
    result = run(cli, tiny_preset(purifiers=[str(one), str(two)]), "--out", tmp_path / "out")
    assert result.exit_code == REFUSED
    for part in ("'mine'", str(one), str(two), "rename"):
        assert part in result.stderr


def test_a_purifier_and_a_classifier_given_by_path_may_share_a_name(
    cli, tiny_preset, tmp_path, purifier_file, classifier_file
):
    purifier = purifier_file("return x.clamp(0, 1)", name="mine")
    classifier = classifier_file("return lambda x: x.flatten(1)[:, :10]", name="mine")
    preset = tiny_preset(purifiers=[str(purifier), "none"], classifier={"name": str(classifier)})
    result = run(cli, preset, "--out", tmp_path / "out")
    assert result.exit_code == OK, result.output
