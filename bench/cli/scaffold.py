"""`bench new-purifier` and its like: write a working plugin to start from and its test, or a package of plugins."""

from __future__ import annotations

import json
import keyword
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.shell import app, say
from bench.errors import PurifyBenchError
from bench.files import make_folder, read_text, write_file
from bench.plugins import CLASSIFIER, PURIFIER, Kind, discover

_TEMPLATES = Path(__file__).parent / "templates"
_PACKAGE = {  # file of a package -> its template
    "pyproject.toml": "package_pyproject.toml.txt",
    "README.md": "package_README.md.txt",
    "src/{module}/purifier.py": "purifier.py.txt",
    "src/{module}/classifier.py": "classifier.py.txt",
    "tests/test_{module}.py": "package_test.py.txt",
}


class ScaffoldError(PurifyBenchError):
    """The files cannot be written; the message names the reason and the remedy."""


def write_plugin(kind: Kind, name: str, folder: Path, tests: Path) -> tuple[Path, Path]:
    """Write a plugin `folder/NAME.py` and its test `tests/test_NAME.py`, from the templates; returns their paths.

    Raises:
        ScaffoldError: the name is invalid or taken, a file exists already, or a folder cannot be written.
    """
    _refuse_name(kind.name, name)
    _refuse_taken(kind, name)
    words = _words(name)
    plugin, test = folder / f"{words['module']}.py", tests / f"test_{words['module']}.py"
    if (folder / words["module"]).is_dir():
        raise ScaffoldError(f"{folder / words['module']} is a folder, which hides {plugin}; choose another name")
    for path in (plugin, test):
        if path.exists():
            raise ScaffoldError(f"{path} exists already; move it away or choose another name")
        if not path.parent.is_dir():
            raise ScaffoldError(
                f"{path.parent} is not a folder; run this at the project's root, or give --folder and --tests"
            )
    words["path"] = json.dumps(os.path.relpath(plugin, tests))
    try:
        for path, template in ((plugin, kind.name), (test, f"test_{kind.name}")):
            _fill(f"{template}.py.txt", path, words)
    except OSError as error:
        raise ScaffoldError(f"{plugin} and {test} cannot be written ({error}); give --folder and --tests") from error
    return plugin, test


def write_package(name: str, folder: Path) -> Path:
    """Write a package `folder/NAME` with a purifier, a classifier, their entry points and tests; returns its path.

    The purifier is called NAME, the classifier NAME-classifier.

    Raises:
        ScaffoldError: the name is invalid or taken, the folder exists already, or it cannot be written.
    """
    _refuse_name("package", name)
    _refuse_taken(PURIFIER, name)
    _refuse_taken(CLASSIFIER, f"{name}-classifier")
    words, root = _words(name), folder / name
    if find_spec(words["module"]) is not None:
        raise ScaffoldError(f"there is a module {words['module']!r} in this environment; choose another name")
    if root.exists():
        raise ScaffoldError(f"{root} exists already; move it away or choose another name")
    classifier = _words(f"{name}-classifier")
    try:
        for place, template in _PACKAGE.items():
            path = root / place.format(**words)
            make_folder(path.parent)
            _fill(template, path, classifier if template == "classifier.py.txt" else words)
        write_file(root / "src" / words["module"] / "__init__.py", f'"""{words["title"]}: plugins of PurifyBench."""\n')
    except OSError as error:
        raise ScaffoldError(f"{root} cannot be written ({error}); give --folder") from error
    return root


def _refuse_name(kind: str, name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) or keyword.iskeyword(name):
        noun = "package" if kind == "package" else "plugin"
        raise ScaffoldError(f"{name!r} is no {noun} name; use lower-case words joined by hyphens, such as my-{kind}")


def _refuse_taken(kind: Kind, name: str) -> None:
    if name in discover(kind):
        raise ScaffoldError(f"a {kind.name} {name!r} exists already; choose another name")


def _words(name: str) -> dict[str, str]:
    """A name in the forms that templates use."""
    return {
        "name": name,
        "module": name.replace("-", "_"),
        "title": name.replace("-", " ").capitalize(),
        "class_name": "".join(word.capitalize() for word in name.split("-")),
    }


def _fill(template: str, path: Path, words: dict[str, str]) -> None:
    write_file(path, read_text(_TEMPLATES / template).format(**words))


def _scaffold_command(kind: str, place: Path, trial: str) -> None:
    """Add the command that writes a plugin of a kind to start from.

    Parameters:
        place: folder of its file, unless another one is named.
        trial: a command that runs it, with `{plugin}` and `{name}`.
    """

    @app.command(f"new-{kind}", help=f"Write a working {kind} plugin to start from, and its test.")
    def scaffold(
        name: Annotated[str, typer.Argument(help="Such as `my-plugin`.")],
        folder: Annotated[Path, typer.Option(help="Folder of the file.")] = place,
        tests: Annotated[Path, typer.Option(help="Folder of its test.")] = Path("tests"),
    ) -> None:
        from bench.attack import ATTACK

        known = {one.name: one for one in (PURIFIER, CLASSIFIER, ATTACK)}
        plugin, test = write_plugin(known[kind], name, folder, tests)
        say(f"wrote {plugin} and {test}")
        say(f"try it:  python -m bench {trial.format(plugin=plugin, name=name)}")


_SMALL = "--images 20 --sigmas 0.5 --out results/runs/{name}"
_scaffold_command("purifier", Path("purifiers"), f"run --purifiers none,{{plugin}} {_SMALL}")
_scaffold_command("classifier", Path("classifiers"), f"run --classifier {{plugin}} {_SMALL}")
_scaffold_command("attack", Path(), "attack RUN --attack {plugin} --images 10")


@app.command("new-package")
def new_package(
    name: Annotated[str, typer.Argument(help="Such as `my-package`.")],
    folder: Annotated[Path, typer.Option(help="Folder in which the package's folder is made.")] = Path(),
) -> None:
    """Write a package with a purifier, a classifier, their entry points and tests, to publish by itself."""
    root = write_package(name, folder)
    say(f"wrote {root}: pyproject.toml, README.md, src, tests")
    say(f"try it:  cd {root} && python -m pip install -e .[tests] && python -m pytest && python -m bench list")
