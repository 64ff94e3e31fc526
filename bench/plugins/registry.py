"""Find purifiers and classifiers in their package, by entry point, or by the path of a file."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import TypeAdapter, ValidationError

from bench.errors import PurifyBenchError
from bench.names import nearest
from bench.plugins.fingerprint import source
from bench.plugins.notation import RESERVED
from classifiers.base import Classifier
from classifiers.local_votes import LOCAL, is_plain, with_local_votes
from purifiers.base import Purifier


class PluginError(PurifyBenchError):
    """A plugin is unknown, cannot be imported, or refuses its parameters; the message gives the reason."""


@dataclass(frozen=True)
class Kind:
    """A kind of plugin: its package, its contract, and subpackages of the package that hold plugins, too."""

    name: str
    package: str
    contract: type
    subpackages: tuple[str, ...] = ()


PURIFIER = Kind("purifier", "purifiers", Purifier)
CLASSIFIER = Kind("classifier", "classifiers", Classifier, ("classifiers.zeroshot",))


def discover(kind: Kind) -> dict[str, type]:
    """All plugins of a kind by name: those of its package, then those that entry points name.

    Raises:
        PluginError: a file of the package or an installed third party's plugin cannot be imported, or two share a name.
    """
    known: dict[str, type] = {}
    for package in (kind.package, *kind.subpackages):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            if not module.ispkg:
                with _refusing_import(module.name, "; mend its file or move it away"):
                    imported = importlib.import_module(module.name)
                _add(known, kind, imported)
    for point in _installed(f"purifybench.{kind.package.rpartition('.')[2]}", tuple(sys.path)):
        third_party, remedy = f"the {kind.name} {point.name!r} of {point.value}", "mend or uninstall its package"
        with _refusing_import(third_party, f"; {remedy}"):
            loaded = point.load()
        if isinstance(loaded, ModuleType):
            _add(known, kind, loaded)
        elif isinstance(loaded, type) and issubclass(loaded, kind.contract) and hasattr(loaded, "name"):
            refuse_namesake(known, kind, loaded)
        else:
            raise PluginError(f"{third_party} is no {kind.contract.__name__} with a name; {remedy}")
    return known


@cache
def _installed(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """The entry points of the packages on `sys.path`, which are read once: each run creates its plugins many times."""
    return tuple(entry_points(group=group))


@contextmanager
def _refusing_import(subject: str, remedy: str = "") -> Iterator[None]:
    """Turn any exception of an import inside the context into a PluginError."""
    try:
        yield
    except Exception as error:
        raise PluginError(f"{subject} cannot be imported ({type(error).__name__}: {error}){remedy}") from error


def _add(known: dict[str, type], kind: Kind, module: ModuleType) -> None:
    """Add the plugins that a module defines, but not those that it imports."""
    for value in vars(module).values():
        own = isinstance(value, type) and value.__module__ == module.__name__
        if own and issubclass(value, kind.contract) and "name" in vars(value):
            refuse_namesake(known, kind, value)


def refuse_namesake(known: dict[str, type], kind: Kind, plugin: type) -> None:
    """Add a plugin to those known by name; raises PluginError if one of other code has its name."""
    name = plugin.name  # type: ignore[attr-defined]
    other = known.setdefault(name, plugin)
    if (source(other), other.__name__) != (source(plugin), plugin.__name__):
        raise PluginError(f"two {kind.name}s are called {name!r}: {source(other)} and {source(plugin)}; rename one")


def from_path(kind: Kind, path: Path) -> type:
    """The one plugin that a Python file defines.

    Raises:
        PluginError: the file is missing, cannot be imported, or does not define exactly one.
    """
    if not path.is_file():
        raise PluginError(
            f"{path} is not a file; a {kind.name} is a name from `bench list` or the path of a Python file"
        )
    name = f"purifybench_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)  # modules beside the plugin, which it may import
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with _refusing_import(str(path)):
        spec.loader.exec_module(module)
    defined: dict[str, type] = {}
    _add(defined, kind, module)
    if len(defined) != 1:
        raise PluginError(
            f"{path} must define exactly one {kind.contract.__name__} with a name, it defines {len(defined)}"
        )
    return next(iter(defined.values()))


def _find(kind: Kind, name: str) -> type:
    """The plugin with a known name, or in the Python file with this path.

    Raises:
        PluginError: unknown (the message has the nearest name and the list), not importable, or a file whose plugin
            has the name of another.
    """
    known = discover(kind)
    if name.endswith(".py"):
        plugin = from_path(kind, Path(name))
        refuse_namesake(known, kind, plugin)
        return plugin
    if name not in known:
        raise PluginError(nearest(kind.name, name, known))
    return known[name]


def create(kind: Kind, name: str, parameters: Mapping[str, Any]) -> Any:
    """Create a plugin with its parameters, which may be strings. Every classifier has the options `LOCAL`, too.

    Raises:
        PluginError: unknown plugin or parameter, or a value that the plugin refuses.
    """
    plugin = _find(kind, name)
    if kind is CLASSIFIER and parameters.keys() & set(LOCAL):
        plugin = with_local_votes(plugin)
    fields = [f.name for f in dataclasses.fields(plugin)]
    if kind is PURIFIER and RESERVED in fields:
        raise PluginError(
            f"purifier {name!r} has a parameter {RESERVED!r}, a name that presets use for the classifier behind a "
            "purifier: rename the parameter"
        )
    if unknown := [parameter for parameter in parameters if parameter not in fields]:
        raise PluginError(f"{kind.name} {name!r}: " + nearest("parameter", unknown[0], fields or ["(none)"]))
    try:
        created: Any = TypeAdapter(plugin).validate_python(dict(parameters))
    except Exception as error:  # __post_init__ may raise anything
        problem = f"{type(error).__name__}: {error}"
        if isinstance(error, ValidationError):
            problem = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".lstrip(": ") for e in error.errors())
        raise PluginError(f"{kind.name} {name!r} refuses its parameters: {problem}") from error
    if kind is CLASSIFIER and parameters.keys() & set(LOCAL) and is_plain(created):  # the same function, one identity
        return create(kind, name, {key: value for key, value in parameters.items() if key not in LOCAL})
    return created


def parameters(plugin: Any) -> dict[str, Any]:
    """The parameters of a plugin in a cell: all, except options (`OPTION`) that have their default value."""
    optional = {f.name: f.default for f in dataclasses.fields(plugin) if f.metadata.get("option")}
    return {k: v for k, v in dataclasses.asdict(plugin).items() if k not in optional or v != optional[k]}
