"""Limits on the code and files that a preset names, because its user may not be its author.

Code named by a preset runs only from its folder or the current folder, and code named by a preset that it extends only
from its folder; the user must name other code. Code named by a results folder runs only if the user names it, too.
Files that are only read may be anywhere; those outside are listed to the user.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.errors import InputError
from bench.files import read_toml
from bench.plugins.notation import RESERVED, purifier_and_classifier

PLUGINS = {"purifiers": "--purifiers", "classifier": "--classifier"}  # field -> command line option that replaces it


def with_code_beside(
    fields: Mapping[str, Any], preset: Path, overridden: Collection[str], folder: Path
) -> dict[str, Any]:
    """A preset's fields, with relative paths of plugins and of `data` resolved against its folder if they exist there.

    Parameters:
        overridden: fields that the user gave on the command line; they are not checked.
        folder: of the preset that the user named: this one, or one that extends it.

    Raises:
        ValueError: the preset names code outside that folder and the current folder.
    """

    def resolved(field: str, plugin: Any) -> Any:
        plugin = plugin.strip() if isinstance(plugin, str) else plugin
        name = name_of(plugin)
        if not name.endswith(".py"):
            return plugin
        beside = preset.parent / name
        path = str(beside) if beside.is_file() else name
        allowed = [folder, Path.cwd()] if folder.resolve() == preset.parent.resolve() else [folder]
        if not _is_inside(Path(path), *allowed):
            place = "its folder" if Path.cwd() in allowed else f"{folder}, the folder of the preset that you named"
            raise InputError(
                f"{preset} would run code outside of {place}: {Path(path).resolve()}. If you trust it, name it "
                f"yourself ({PLUGINS[field]}), or put it into that folder"
            )
        return {**plugin, "name": path} if isinstance(plugin, Mapping) else path + plugin[len(name) :]

    def with_classifier(purifier: Any) -> Any:
        if isinstance(purifier, str):
            alone, _ = purifier_and_classifier(purifier)
            return resolved("purifiers", alone) + purifier[len(alone) :]
        purifier = resolved("purifiers", purifier)
        own = isinstance(purifier, Mapping) and purifier.get(RESERVED)
        return {**purifier, RESERVED: resolved("purifiers", own)} if own else purifier

    result = dict(fields)
    for field in PLUGINS.keys() & fields.keys() - set(overridden):
        value = fields[field]
        value = value.split(",") if field == "purifiers" and isinstance(value, str) else value
        result[field] = [with_classifier(one) for one in value] if isinstance(value, list) else resolved(field, value)
    data = fields.get("data")
    if isinstance(data, str) and "data" not in overridden and os.path.exists(beside := preset.parent / data):
        result["data"] = str(beside)
    return result


def name_of(plugin: Any) -> str:
    """The name (or path) of a plugin in any form that a preset may use; empty if there is none."""
    name = plugin.get("name") if isinstance(plugin, Mapping) else plugin
    return name.strip().partition(":")[0] if isinstance(name, str) else ""


def _is_inside(path: Path, *folders: Path) -> bool:
    """Whether a path, after following links, lies in one of these folders."""
    return any(path.resolve().is_relative_to(folder.resolve()) for folder in folders)


def code_named_by_user(plugin: str, files: Collection[Path]) -> Path | None:
    """The user's file for a plugin that results name by path: the same path, or else a file of the same name."""
    same_name = [file for file in files if file.name == Path(plugin).name]
    same = [file for file in same_name if file.resolve() == Path(plugin).resolve()]
    return next(iter(same or same_name), None)


def files_outside(preset: Path, fields: Mapping[str, Any], overridden: Collection[str]) -> Iterator[Path]:
    """Paths outside the preset's folder and the current folder that a preset reads: presets, weights, data.

    Parameters:
        preset: the preset's file.
        fields: the preset's fields; `overridden` names those that the user gave on the command line.
    """
    from purifiers.nets.hub.sources import given_path

    paths: list[Path | None] = list(_extended(preset)) if preset.suffix == ".toml" else []
    if "networks" not in overridden:
        paths += [given_path(text) for text in fields["networks"].values()]
    for field in (field for field in PLUGINS if field not in overridden):
        plugins = fields[field] if isinstance(fields[field], list) else [fields[field]]
        parameters = [value for plugin in plugins for name, value in plugin.items() if name != "name"]
        paths += [Path(os.path.expanduser(text)) for text in _texts_in(parameters)]
    if "data" not in overridden and fields.get("data"):
        paths.append(Path(os.path.expanduser(fields["data"])))
    for path in dict.fromkeys(paths):
        if path is not None and os.path.exists(path) and not _is_inside(path, preset.parent, Path.cwd()):
            yield path


def _extended(preset: Path) -> Iterator[Path]:
    """The preset files that a preset extends, directly or indirectly, except presets of the project."""
    while str(base := read_toml(preset).get("extends", "")).endswith(".toml"):
        preset = preset.parent / str(base)
        yield preset


def _texts_in(value: Any) -> Iterator[str]:
    """All strings in nested lists and tables; any of them may be a path."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple | Mapping):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _texts_in(one)
