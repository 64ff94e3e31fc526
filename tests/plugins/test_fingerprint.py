"""A plugin's fingerprint covers all code that it imports from outside installed packages, and nothing else."""

from __future__ import annotations

import sys

import pytest

from bench.plugins import registry
from bench.plugins.fingerprint import _hash_files, plugin_hash, plugin_modules

PLUGIN = """
from dataclasses import dataclass
{imports}
from purifiers.base import Purifier

@dataclass(frozen=True)
class Halve(Purifier):
    name = "halve"
    family = "other"
    source = "a test"

    def restore(self, u, t, networks, rng):
        {inside}
        return u * GAIN
"""


@pytest.fixture
def fingerprint(tmp_path):
    """Writes files, loads the plugin among them, and gives its fingerprint."""

    def forget():
        for module in [name for name in sys.modules if name.startswith(("halve", "other"))]:
            del sys.modules[module]

    def of(**files):
        for name, text in files.items():
            path = tmp_path / f"{name.replace('__', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        forget()
        return plugin_hash(registry.from_path(registry.PURIFIER, tmp_path / "halve.py"))

    yield of
    forget()
    sys.path.remove(str(tmp_path))


@pytest.mark.parametrize(
    ("imports", "inside", "helper"),
    [
        ("from halve_lib.helper import GAIN", "pass", "halve_lib__helper"),
        ("import halve_helper; GAIN = halve_helper.GAIN", "pass", "halve_helper"),
        ("from halve_lib import helper; GAIN = helper.GAIN", "pass", "halve_lib__helper"),
        ("", "from halve_lib.deep import GAIN", "halve_lib__helper"),
        ("from halve_lib.near import GAIN", "pass", "halve_lib__helper"),
    ],
)
def test_a_changed_helper_changes_the_fingerprint(fingerprint, imports, inside, helper):
    plugin = PLUGIN.format(imports=imports, inside=inside)
    deep = "from halve_lib.helper import GAIN\n"
    near = "from . import helper\nGAIN = helper.GAIN\n"
    first = fingerprint(halve=plugin, halve_lib__deep=deep, halve_lib__near=near, **{helper: "GAIN = 0.5\n"})
    assert fingerprint(**{helper: "GAIN = 0.5  # a comment\n"}) == first
    assert fingerprint(**{helper: "GAIN = 0.25\n"}) != first


def test_code_that_the_plugin_does_not_import_does_not_count(fingerprint):
    plugin = PLUGIN.format(imports="GAIN = 1", inside="pass")
    assert fingerprint(halve=plugin, other="x = 1\n") == fingerprint(other="x = 2\n")


def test_installed_packages_the_harness_and_versioned_networks_do_not_count():
    for kind in (registry.PURIFIER, registry.CLASSIFIER):
        for plugin in registry.discover(kind).values():
            names = {path.as_posix() for path in plugin_modules(plugin)}
            assert names and not [name for name in names if "site-packages" in name or "/nets/" in name]
            assert any(name.endswith("base.py") for name in names)


def test_comments_docstrings_and_file_names_do_not_change_a_hash(tmp_path):
    first, second, third = (tmp_path / f"{name}.py" for name in "abc")
    first.write_text('"""One."""\nx = 1  # a comment\n')
    second.write_text('"""Another."""\n\n\nx = 1\n')
    third.write_text("x = 2\n")
    assert _hash_files([first]) == _hash_files([second]) != _hash_files([third])
