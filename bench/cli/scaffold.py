"""Write a working purifier or classifier to start from, and its test."""

from __future__ import annotations

import json
import keyword
import os
import re
from pathlib import Path

from bench.errors import PurifyBenchError
from bench.files import read_text, write_file
from bench.plugins import Kind, discover

_TEMPLATES = Path(__file__).parent / "templates"


class ScaffoldError(PurifyBenchError):
    """The files cannot be written; the message names the reason and the remedy."""


def write_plugin(kind: Kind, name: str, folder: Path, tests: Path) -> tuple[Path, Path]:
    """Write a plugin `folder/NAME.py` and its test `tests/test_NAME.py`, from the templates; returns their paths.

    Raises:
        ScaffoldError: the name is invalid or taken, a file exists already, or a folder cannot be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ScaffoldError(
            f"{name!r} is no plugin name; use lower-case words joined by hyphens, such as my-{kind.name}"
        )
    if name in discover(kind):
        raise ScaffoldError(f"a {kind.name} {name!r} exists already; choose another name")
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
    words = {
        "name": name,
        "module": module,
        "title": name.replace("-", " ").capitalize(),
        "class_name": "".join(word.capitalize() for word in name.split("-")),
        "path": json.dumps(os.path.relpath(plugin, tests)),
    }
    try:
        for path, template in ((plugin, kind.name), (test, f"test_{kind.name}")):
            write_file(path, read_text(_TEMPLATES / f"{template}.py.txt").format(**words))
    except OSError as error:
        raise ScaffoldError(f"{plugin} and {test} cannot be written ({error}); give --folder and --tests") from error
    return plugin, test
