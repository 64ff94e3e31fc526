"""Fingerprints of plugins: the code that decides what a plugin computes, as part of a cell's identity."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import sysconfig
from functools import lru_cache
from importlib.machinery import ModuleSpec
from itertools import accumulate
from pathlib import Path

from bench.files import read_text

_PROJECT = ("purifiers", "classifiers")  # hashed wherever they are installed
_VERSIONED = ("bench", "purifiers.nets", "classifiers.nets")  # have version numbers of their own in a cell
_PATHS = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_INSTALLED = tuple(Path(path).resolve() for path in _PATHS)


def plugin_hash(plugin: type) -> str:
    """Sixteen hexadecimal digits of a hash of a plugin's code.

    Comments, docstrings, layout and the version of Python do not change it; nor does a move of the files.
    """
    return _hash_files(plugin_modules(plugin))


def plugin_modules(plugin: type) -> list[Path]:
    """The files of a plugin's code: its own, and every module outside installed packages that it imports.

    Imports are followed to any depth, inside functions too. Of an installed plugin, the modules of its own top-level
    package belong to it. Modules of the harness and of `nets` are left out: version numbers stand for them.
    """
    parents = [parent.__module__ for parent in plugin.__mro__ if parent is not object]
    own = {*_PROJECT, *(_top(name) for name in parents)}
    waiting, seen, files = list(parents), set(_VERSIONED), set()
    while waiting:
        name = waiting.pop()
        if name in seen or _inside(name, _VERSIONED) or (_top(name) not in own and _is_installed(_top(name))):
            continue
        seen.add(name)
        path = _file_of(name)
        if path is not None and path not in files:
            files.add(path)
            waiting += _imported_by(name, path, path.stat().st_mtime_ns)
    return sorted(files)


@lru_cache(maxsize=1024)
def _imported_by(name: str, path: Path, modified: int) -> tuple[str, ...]:
    """Absolute names of all modules that a module may import, and of the packages that hold them."""
    imported: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(read_text(path))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".") if node.level and package else []
            base = parts[: len(parts) - node.level + 1] + ([node.module] if node.module else [])
            imported.update(".".join([*base, alias.name]) for alias in node.names)  # a name may be a module
    return tuple({parent for name in imported for parent in accumulate(name.split("."), "{}.{}".format)})


def _top(name: str) -> str:
    return name.partition(".")[0]


def _file_of(name: str) -> Path | None:
    """The Python file of a module, loaded or not; None for other modules, and for names that are no modules."""
    file = getattr(sys.modules.get(name), "__file__", None) or getattr(_spec(name), "origin", None)
    path = Path(file or "").resolve()
    return path if path.suffix == ".py" and path.is_file() else None


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):  # no such module, or its parent is no package
        return None


@lru_cache(maxsize=1024)
def _is_installed(name: str) -> bool:
    """Whether a top-level module belongs to Python or to an installed package."""
    if name in sys.stdlib_module_names:
        return True
    spec = _spec(name)
    places = [*(spec.submodule_search_locations or []), spec.origin or ""] if spec else []
    return any(Path(place).resolve().is_relative_to(folder) for place in places if place for folder in _INSTALLED)


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def source(plugin: type) -> str:
    """The file that defines a plugin, with links followed."""
    return str(Path(inspect.getsourcefile(plugin) or "?").resolve())


def _hash_files(paths: list[Path]) -> str:
    """Sixteen hexadecimal digits of a hash of the code in Python files, whatever their order and names."""
    parts = sorted(_essence_hash(path, path.stat().st_mtime_ns) for path in paths)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@lru_cache(maxsize=1024)
def _essence_hash(path: Path, modified: int) -> str:
    """SHA-256 of the syntax tree of a file, without docstrings."""
    tree = ast.parse(read_text(path))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:]
    return hashlib.sha256(_shape(tree).encode()).hexdigest()


def _shape(node: object) -> str:
    """A syntax tree as text. Empty fields are left out, because versions of Python differ in them."""
    if isinstance(node, ast.AST):
        fields = [f"{name}={_shape(value)}" for name, value in ast.iter_fields(node) if value not in (None, [])]
        return f"{type(node).__name__}({', '.join(fields)})"
    return f"[{', '.join(map(_shape, node))}]" if isinstance(node, list) else repr(node)
