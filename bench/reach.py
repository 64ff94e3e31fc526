"""What a preset may reach: it names code and files, and who runs it may not have written it.

Code that a preset names is run only from the preset's folder or the current one; what lies elsewhere is run where the
user names it. Files that are only read may lie anywhere, and are shown.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

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
            raise ValueError(
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


def files_outside(preset: Path, fields: Mapping[str, Any], overridden: Collection[str]) -> Iterator[Path]:
    """The weights and the data that a preset reads from outside of its folder and of the current one.

    Parameters:
        fields: of the preset as it is run; `overridden` were named by the user, not by the preset.
    """
    from purifiers.nets.sources import given_path

    named: list[Path | None] = []
    if "networks" not in overridden:
        named += [given_path(text) for text in fields["networks"].values()]
    if "classifier" not in overridden:
        texts = [value for value in fields["classifier"].values() if isinstance(value, str)]
        named += [Path(text).expanduser() for text in texts if not text.endswith(".py")]
    if "data" not in overridden and fields.get("data"):
        named.append(Path(fields["data"]).expanduser())
    for path in dict.fromkeys(named):
        if path is not None and path.exists() and not is_inside(path, preset.parent):
            yield path
