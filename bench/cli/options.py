"""Command-line options generated from the fields of a preset."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from bench.sweep.preset import Preset


def with_preset_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `f(..., **fields)` one option for each field of `Preset`, by the field's name and description.

    Values stay text, which `Preset` parses and checks; a field that the user does not give is None.
    """

    def run(**given: Any) -> None:
        command(**given)

    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    parameters = [*own, *map(parameter_of, Preset.model_fields)]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def parameter_of(name: str) -> inspect.Parameter:
    """The option of one field."""
    field = Preset.model_fields[name]
    option = "--" + name.replace("_", "-")
    kind: Any = str | None
    if field.annotation is bool:
        kind, option = bool | None, f"{option}/--no-{option[2:]}"
    elif name == "networks":
        kind = list[str] | None
    annotation = Annotated[kind, typer.Option(option, help=field.description, metavar=None)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
