"""What a preset may reach: it names code and files, and who runs it may not have written it.

Code that a preset names is run only from the preset's folder or the current one; what lies elsewhere is run where the
user names it. Code that results name is run only where the user names it. Files that are only read may lie anywhere,
and are shown.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import InputError

PLUGINS = {"purifiers": "--purifiers", "classifier": "--classifier"}  # field -> the option that names its code instead


def with_code_beside(fields: Mapping[str, Any], preset: Path, overridden: Collection[str]) -> dict[str, Any]:
    """A preset's fields, its relative paths of plugins made those beside it, where they are there.

    Raises:
        ValueError: it names code outside of its folder and of the current one.
    """

    def settled(field: str, plugin: Any) -> Any:
        plugin = plugin.strip() if isinstance(plugin, str) else plugin
        name = name_of(plugin)
        if not name.endswith(".py"):
            return plugin
        beside = preset.parent / name
        path = str(beside) if beside.is_file() else name
        if not is_inside(Path(path), preset.parent):
            raise InputError(
                f"{preset} would run code outside of its folder: {Path(path).resolve()}. Where you trust it, name it "
                f"yourself ({PLUGINS[field]}), or put it beside the preset"
            )
        return {**plugin, "name": path} if isinstance(plugin, Mapping) else path + plugin[len(name) :]

    found = dict(fields)
    for field in PLUGINS.keys() & fields.keys() - set(overridden):
        value = fields[field]
        value = value.split(",") if field == "purifiers" and isinstance(value, str) else value
        found[field] = [settled(field, one) for one in value] if isinstance(value, list) else settled(field, value)
    return found


def name_of(plugin: Any) -> str:
    """The name (or path) in a plugin as a preset writes it; empty where it is none."""
    name = plugin.get("name") if isinstance(plugin, Mapping) else plugin
    return name.strip().partition(":")[0] if isinstance(name, str) else ""


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a path, its links followed, lies in a folder or in the current one."""
    return any(path.resolve().is_relative_to(root.resolve()) for root in (folder, Path.cwd()))


def code_named_by_user(plugin: str, files: Collection[Path]) -> Path | None:
    """The file that a user gives for a plugin which results name by its path: the same, or else one of its name."""
    alike = [file for file in files if file.name == Path(plugin).name]
    same = [file for file in alike if file.resolve() == Path(plugin).resolve()]
    return next(iter(same or alike), None)


def files_outside(preset: Path, fields: Mapping[str, Any], overridden: Collection[str]) -> Iterator[Path]:
    """What a preset reads from outside of its folder and of the current one: presets, weights, data.

    Parameters:
        preset: the file that it stands in.
        fields: of the preset as it is run; `overridden` were named by the user, not by the preset.
    """
    from purifiers.nets.hub.sources import given_path

    named: list[Path | None] = list(extended(preset)) if preset.suffix == ".toml" else []
    if "networks" not in overridden:
        named += [given_path(text) for text in fields["networks"].values()]
    for field in (field for field in PLUGINS if field not in overridden):
        plugins = fields[field] if isinstance(fields[field], list) else [fields[field]]
        parameters = [value for plugin in plugins for name, value in plugin.items() if name != "name"]
        named += [Path(os.path.expanduser(text)) for text in texts_in(parameters)]
    if "data" not in overridden and fields.get("data"):
        named.append(Path(os.path.expanduser(fields["data"])))
    for path in dict.fromkeys(named):
        if path is not None and os.path.exists(path) and not is_inside(path, preset.parent):
            yield path


def extended(preset: Path) -> Iterator[Path]:
    """The files that a preset extends, one after another, but none that comes with the project."""
    while str(base := tomllib.loads(preset.read_text()).get("extends", "")).endswith(".toml"):
        preset = preset.parent / str(base)
        yield preset


def texts_in(value: Any) -> Iterator[str]:
    """Every text in lists and tables, however deep: any may be a path."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from texts_in(one)
