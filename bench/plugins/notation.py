"""How presets and the command line write plugins, and options of single networks. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Plugin(BaseModel):
    """A plugin by name (or path), with its parameters: `{name = "pf-ode", steps = 4}`, or `pf-ode:steps=4` as text."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @model_validator(mode="before")
    @classmethod
    def read_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name, *pairs = value.split(":")
        if any("=" not in pair for pair in pairs):
            raise ValueError(f"{value!r} is not of the form name:parameter=value:parameter=value")
        return {"name": name, **dict(pair.split("=", 1) for pair in pairs)}

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


class OwnCompute(BaseModel):
    """Options in which one network differs; of the classifier, `precision` is its plugin's parameter."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] | None = None
    channels_last: bool | Literal["auto"] | None = None
    compile: Literal["no", "default", "reduce-overhead", "max-autotune", "auto"] | None = None


def own_options(value: Any) -> dict[str, dict[str, Any]]:
    """Network -> its own options, from a table or from texts of the form NETWORK.OPTION=VALUE."""
    if not isinstance(value, Mapping):
        pairs = [text.partition("=") for text in value]
        if not all(name.count(".") and equals and option for name, equals, option in pairs):
            raise ValueError("each must be of the form NETWORK.OPTION=VALUE, such as classifier.compile=no")
        table: dict[str, dict[str, Any]] = {}
        for name, _, option in pairs:
            network, _, field = name.rpartition(".")
            table.setdefault(network, {})[field] = option
        value = table
    if "precision" in value.get("classifier", {}):
        raise ValueError("the classifier's precision is its own parameter: --classifier NAME:precision=bf16")
    return {name: OwnCompute.model_validate(own).model_dump(exclude_none=True) for name, own in value.items()}
