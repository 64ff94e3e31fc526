"""How presets and the command line write plugins, and options of single networks. Needs no torch."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer, model_validator

from bench.records import EACH_SIGMA

# A path with an @ stays a path: the name of a classifier has neither a slash nor a dot.
_WITH_CLASSIFIER = re.compile(r"(?P<purifier>[^@]+)@(?P<classifier>[\w-]+(:.*)?)", re.DOTALL)
RESERVED = "classifier"  # of a purifier's entry; no purifier may have a parameter of this name


class Plugin(BaseModel):
    """A plugin by name (or path), with its parameters: `{name = "pf-ode", steps = 4}`, or `pf-ode:steps=4` as text.

    A purifier may name the classifier behind it, instead of the one of its preset:
    `{name = "none", classifier = {name = "cnn", path = "FILE"}}`. With `{sigma}` in a parameter, such as
    `path = "mnist5k/noisy-classifier-{sigma}"`, it names one for each noise level (Cohen et al. 2019).
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str
    classifier: Plugin | None = None

    @model_validator(mode="before")
    @classmethod
    def read_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name, *pairs = value.split(":")
        if any("=" not in pair for pair in pairs):
            raise ValueError(f"{value!r} is not of the form name:parameter=value:parameter=value")
        parameters = dict(pair.split("=", 1) for pair in pairs)
        if RESERVED in parameters:
            raise ValueError(f"write the classifier of a single purifier as {name}@CLASSIFIER:parameter=value")
        return {"name": name, **parameters}

    @model_validator(mode="after")
    def one_classifier(self) -> Plugin:
        if self.classifier is not None and self.classifier.classifier is not None:
            raise ValueError("a classifier has no classifier of its own")
        return self

    @model_serializer(mode="wrap")
    def as_written(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without `classifier`, unless it is named: presets are stored as they were before."""
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if name != RESERVED or value is not None}

    @property
    def parameters(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @property
    def by_sigma(self) -> dict[str, str]:
        """The parameters that hold `{sigma}`, as they are written."""
        return {k: text for k, text in self.parameters.items() if isinstance(text, str) and EACH_SIGMA in text}

    def at(self, sigma: float) -> Plugin:
        """The plugin at a noise level: `{sigma}` becomes `0.25`, `0.5`, `1`."""
        return self.model_copy(update={k: text.replace(EACH_SIGMA, f"{sigma:g}") for k, text in self.by_sigma.items()})


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


def purifier_and_classifier(text: str) -> tuple[str, str]:
    """The two plugins of `none@cnn:path=FILE`, a purifier with its own classifier; the second is empty without one."""
    both = _WITH_CLASSIFIER.fullmatch(text)
    return (both["purifier"], both["classifier"]) if both else (text, "")


def read_purifier(value: Any) -> Any:
    """A purifier's entry as a `Plugin`, if it is a text with a classifier; other entries are returned unchanged."""
    purifier, classifier = purifier_and_classifier(value) if isinstance(value, str) else (value, "")
    return {**Plugin.model_validate(purifier).model_dump(), RESERVED: classifier} if classifier else value
