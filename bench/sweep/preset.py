"""Sweeps as data: a TOML file says what is measured; every field can be overridden."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    field_validator,
    model_validator,
)

from bench.certify import rules
from bench.names import nearest
from bench.plugins.trust import with_code_beside

FOLDER = Path(__file__).parent.parent / "presets"
DEFAULT_CERTIFIER = "tight"
DEFAULT_BATCH = 500


class PresetError(Exception):
    """A preset cannot be read or a field of it is wrong; the message names the field and what it may be."""


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


def known_certifier(name: str) -> str:
    """A rule's name; `sequential` is short for its preset `tight`."""
    name = "tight" if name == "sequential" else name
    if name not in rules.NAMES:
        raise ValueError(nearest("certifier", name, rules.NAMES))
    return name


def comma_separated(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def count_or_auto(value: Any) -> int | str:
    text = str(value)
    if text == "auto" or (text.isdecimal() and int(text) > 0):
        return text if text == "auto" else int(text)
    raise ValueError("it must be a whole number from 1 on, or auto")


CountOrAuto = Annotated[int | str, PlainValidator(count_or_auto)]
Sigma = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Radius = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Preset(BaseModel):
    """What a sweep measures, and on what.

    Attributes:
        name, title: of the sweep; the results folder is named after it.
        dataset, data: a data set and, where it is not to come from the hub, the folder of its files. The data sets
            `folder` (a subfolder of images for each class) and `parquet` (a table of images) are read from there only.
        size: side of the square to which images of these two are cut and scaled; by default they stay as they are.
        images: how many test images, balanced over the classes.
        every: take the images 0, `every`, 2 `every`, ... instead (`images` of them), as published protocols do.
        classifier: the plugin that votes.
        purifiers: the plugins that are compared.
        networks: role -> network: a bundled or published name (`mnist5k/edm`, `cd-lpips`), a file, a folder or a hub
            id; `KIND:NAME` where its content does not say what it is (docs/networks.md).
        sigmas: standard deviations of the smoothing noise, in [0,1] pixel units.
        certifier: `cohen`, or another bound on as many draws: `two-sided`, `multi-class`, `randomised`, `anytime`; or a
            sequential rule: `tight` (also called `sequential`), `parity`, `half-point`, `fast`; `acr` where average
            certified radii matter.
        label_aware: a sequential rule draws no more for images whose selected class is wrong.
        n0, alpha: draws of the selection, probability that a certificate is wrong.
        n: draws of the estimation, under rules that draw as many for every image.
        n_max: most draws of the estimation, instead of the sequential rule's own.
        radii: L2 radii at which tables and fronts read certified accuracy; a sequential rule decides these only (and
            `acr` every multiple of 0.01 besides).
        radius_digits: significant digits of radii, under rules that draw as many for every image (others take radii
            from the preset); by default all. Published logs have three.
        seed: of the noise.
        precision: in which the purifiers' networks compute: `fp32`, `tf32` (NVIDIA GPUs), `bf16` or `fp16`.
        channels_last: networks see images with their channels innermost.
        compile: networks are compiled: a mode of torch.compile (`default`, `max-autotune`, and `reduce-overhead`, which
            records CUDA graphs), or `no`.
        rows: that a compiled network always sees at once; part of a cell's identity, while `batch` is not.
        device: `auto`, `cpu`, `cuda` or `cuda:1`.
        workers: processes (0: one per core, or per GPU).
        executor: where they are, `local` (on this machine) or `ray`; address: of the Ray cluster (`auto`: the one that
            this machine belongs to), or `local` to start one here.
        batch: draws that travel together; block: draws of an image that are stored together.
        timeout: seconds after which a batch that does not come back ends the run.

    `auto` for precision, channels_last, compile, rows and batch is what is measured to be fastest on the device, once,
    among those that keep purified images as they are in fp32 (`bench.sweep.settle`, docs/speed.md).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(pattern=r"^\w[\w.-]*$")
    title: str = ""
    dataset: str
    data: str | None = None
    size: int | None = Field(None, ge=1)
    images: int = Field(500, ge=1)
    every: int | None = Field(None, ge=1)
    classifier: Plugin
    purifiers: Annotated[list[Plugin], BeforeValidator(comma_separated), Field(min_length=1)]
    networks: dict[str, str] = {}
    sigmas: Annotated[list[Sigma], BeforeValidator(comma_separated), Field(min_length=1)]
    certifier: Annotated[str, AfterValidator(known_certifier)] = DEFAULT_CERTIFIER
    label_aware: bool = False
    n0: int = Field(100, ge=1)
    n: int = Field(10_000, ge=1)
    n_max: int | None = Field(None, ge=1)
    alpha: float = Field(0.001, gt=0, lt=1)
    radii: Annotated[list[Radius], BeforeValidator(comma_separated), Field(min_length=1)] = [0.0, 0.25, 0.5, 0.75, 1.0]
    radius_digits: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "fp32"
    channels_last: bool | Literal["auto"] = False
    compile: Literal["no", "default", "reduce-overhead", "max-autotune", "auto"] = "no"
    rows: CountOrAuto = "auto"
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    workers: int = Field(0, ge=0)
    executor: Literal["local", "ray"] = "local"
    address: str = "local"
    batch: CountOrAuto = DEFAULT_BATCH
    block: int = Field(100, ge=1)
    timeout: float = Field(1800, gt=0, le=1e6)

    @field_validator("radii")
    @classmethod
    def in_order(cls, radii: list[float]) -> list[float]:
        return sorted(set(radii))

    @model_validator(mode="after")
    def rule_can_be_built(self) -> Preset:
        if self.certifier in rules.SEQUENTIAL and self.alpha >= 0.5:
            raise ValueError(f"alpha must be below 0.5 for the certifier {self.certifier!r}, got {self.alpha:g}")
        if self.label_aware and self.certifier not in rules.SEQUENTIAL:
            raise ValueError(
                f"label_aware stops images early, which the certifier {self.certifier!r} never does; choose one of "
                + ", ".join(rules.SEQUENTIAL)
            )
        return self

    @model_validator(mode="after")
    def address_is_of_a_cluster(self) -> Preset:
        if self.executor != "ray" and self.address != "local":
            raise ValueError(f"the address {self.address} is of a Ray cluster; say --executor ray, too")
        return self


def names() -> list[str]:
    """The presets that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def read(name: str, overridden: Collection[str] = (), within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a preset file, on top of those of the preset that it `extends` (by name, or path beside it).

    Parameters:
        overridden: fields that the user gives instead, of which nothing is refused.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise PresetError(f"{path} is not a file; copy one of {FOLDER} to start from")
        raise PresetError(nearest("preset", name, names()) + "; or give the path of a .toml file")
    if path.resolve() in within:
        raise PresetError(f"{path} extends itself; remove `extends` from it, or from the preset that it extends")
    try:
        fields = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, OSError, UnicodeDecodeError) as error:
        raise PresetError(f"{path} cannot be read: {error}") from error
    try:
        fields = with_code_beside(fields, path, overridden)
    except ValueError as error:
        raise PresetError(str(error)) from error
    base = fields.pop("extends", None)
    inherited = {}
    if base is not None:
        beside = str(path.parent / str(base)) if str(base).endswith(".toml") else str(base)
        inherited = read(beside, overridden, (*within, path.resolve()))
    merged = {**inherited, "name": path.stem, **fields}
    if "n" in fields and merged.get("certifier", DEFAULT_CERTIFIER) in (*rules.SEQUENTIAL, "sequential"):
        raise PresetError(
            f"{path} names n, which the certifier {merged.get('certifier', DEFAULT_CERTIFIER)!r} does not take: say "
            '`certifier = "cohen"` for as many draws for every image, or n_max for the most draws'
        )
    return merged


def load(name: str, overrides: Mapping[str, Any]) -> Preset:
    """Read a preset, by name or path of a TOML file, with some fields replaced.

    Raises:
        PresetError: unknown preset or field, or a value that is refused.
    """
    given = {k: v for k, v in overrides.items() if v is not None}
    fields = read(name, given)
    try:
        preset = Preset(**{**fields, **given})
    except ValidationError as error:
        raise PresetError("; ".join(explain(e) for e in error.errors()) + f" (preset {name})") from error
    refused, instead = ("n", "n_max") if preset.certifier in rules.SEQUENTIAL else ("n_max", "n")
    if refused in given:
        raise PresetError(f"{refused}: the certifier {preset.certifier!r} does not take it; {instead} bounds its draws")
    return preset


def explain(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence that names the field."""
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return nearest("field", field, Preset.model_fields)
    if error["type"] == "missing":
        return f"{field}: {error['msg']}"
    return f"{field}: {error['msg'].removeprefix('Value error, ')}, got {error['input']!r}"
