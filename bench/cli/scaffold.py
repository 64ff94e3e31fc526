"""A working purifier to start from, and its test."""

from __future__ import annotations

import json
import keyword
import os
import re
from pathlib import Path

from bench.errors import PurifyBenchError

PLUGIN = '''"""{title}: say here what the method does and why."""

from dataclasses import dataclass

from purifiers.base import Purifier, at_least


@dataclass(frozen=True)
class {class_name}(Purifier):
    """Average several denoised re-noisings of the image; replace this by your method.

    Parameters:
        draws: how many are averaged.
    """

    name = "{name}"
    family = "other"
    source = "your paper"
    networks = ("edm",)

    draws: int = 2

    def __post_init__(self):
        at_least(1, draws=self.draws)

    def nfe(self):
        return self.draws

    def restore(self, u, t, networks, rng):
        denoise = networks["edm"]
        u0 = total = denoise(u, t)
        for _ in range(self.draws - 1):
            total = total + denoise(u0 + t * rng.normal(u0), t)
        return total / self.draws
'''

TEST = '''"""{title} keeps the contract that every purifier keeps."""

from pathlib import Path

import pytest

from bench.conformance import PURIFIER_CHECKS
from bench.plugins import PURIFIER, from_path

PLUGIN = Path(__file__).parent / {path}


@pytest.mark.parametrize("check", PURIFIER_CHECKS, ids=lambda check: check.__name__)
def test_{module}_conforms(check):
    check(from_path(PURIFIER, PLUGIN)())
'''


class ScaffoldError(PurifyBenchError):
    """The files cannot be written; the message says why."""


def write_purifier(name: str, folder: Path, tests: Path) -> tuple[Path, Path]:
    """Write `folder/NAME.py` and `tests/test_NAME.py`; returns their paths.

    Raises:
        ScaffoldError: the name is no name, is taken, a file is there already, or cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ScaffoldError(f"{name!r} is no plugin name; use lower-case words joined by hyphens, such as my-purifier")
    from bench.plugins.registry import PURIFIER, PluginError, discover

    try:
        known = discover(PURIFIER)
    except PluginError as error:
        raise ScaffoldError(str(error)) from error
    if name in known:
        raise ScaffoldError(f"a purifier {name!r} exists already; choose another name")
    module = name.replace("-", "_")
    plugin, test = folder / f"{module}.py", tests / f"test_{module}.py"
    if (folder / module).is_dir():
        raise ScaffoldError(f"{folder / module} is a folder, which hides {plugin}; choose another name")
    for path in (plugin, test):
        if path.exists():
            raise ScaffoldError(f"{path} exists already; move it away or choose another name")
        if not path.parent.is_dir():
            raise ScaffoldError(
                f"{path.parent} is not a folder; run this at the project's root, or give --folder and --tests"
            )
    words = {"name": name, "module": module, "title": name.replace("-", " ").capitalize()}
    class_name = "".join(word.capitalize() for word in name.split("-"))
    try:
        plugin.write_text(PLUGIN.format(class_name=class_name, **words))
        test.write_text(TEST.format(path=json.dumps(os.path.relpath(plugin, tests)), **words))
    except OSError as error:
        raise ScaffoldError(f"{plugin} and {test} cannot be written ({error}); give --folder and --tests") from error
    return plugin, test
