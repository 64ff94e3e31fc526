"""Presets: sweeps as TOML files, each field of which can be overridden."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
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
    model_validator,
)

from bench.certify import rules
from bench.certify.base import refuse_draws
from bench.errors import InputError, PurifyBenchError
from bench.files import read_toml
from bench.names import nearest
from bench.plugins.notation import Plugin as Plugin
from bench.plugins.notation import own_options, read_purifier
from bench.plugins.trust import with_code_beside
from bench.records import EACH_SIGMA

_FOLDER = Path(__file__).parent.parent / "presets"
_DEFAULT_CERTIFIER = "tight"


class PresetError(PurifyBenchError):
    """A preset cannot be read, or a field is wrong; the message names the field and its possible values."""


def _known_certifier(name: str) -> str:
    """The full name of a rule; `sequential` is short for `tight`."""
    name = "tight" if name == "sequential" else name
    if name not in rules.NAMES:
        raise ValueError(nearest("certifier", name, rules.NAMES))
    return name


def _comma_separated(value: Any) -> Any:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _count_or_auto(value: Any) -> int | str:
    text = str(value)
    if text == "auto" or (text.isdecimal() and int(text) > 0):
        return text if text == "auto" else int(text)
    raise ValueError("it must be a whole number from 1 on, or auto")


_Split = BeforeValidator(_comma_separated)
_Ascending = AfterValidator(lambda numbers: sorted(set(numbers)))
_CountOrAuto = Annotated[int | str, PlainValidator(_count_or_auto)]
_LARGEST = 1e4  # of sigmas and radii in [0,1] pixel units; float32 networks see nothing beyond it
_Sigma = Annotated[float, Field(ge=1 / _LARGEST, le=_LARGEST, allow_inf_nan=False)]
_Radius = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]


class Preset(BaseModel):
    """A sweep: images, plugins, noise levels, the certifier and how the networks compute.

    `bench run` has an option for every field; the docstrings of the fields are its help texts. `auto` for precision,
    channels_last, compile, rows and batch selects the fastest setting, measured once on the device, among those that
    keep purified images as they are in fp32 (`bench.sweep.settle`, docs/speed.md). On a GPU, it is the default of all
    but rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str = Field(pattern=r"^\w[\w.-]*$")
    """Name of the sweep; its results folder is named after it."""
    title: str = ""
    """Title of tables and pictures."""
    protocol: str = ""
    """The publication whose protocol the preset reproduces. It then computes as the preset says on a GPU, too, where
    others leave precision, layout, compilation and batch to `auto`."""
    dataset: str
    """A data set from `bench list`; `folder` and `parquet` read images from --data."""
    data: str | None = None
    """Folder of the data set's files, instead of the hub; in a preset, relative to its file, else to here."""
    size: int | None = Field(None, ge=1)
    """Side in pixels to which images of `folder` and `parquet` are cut and scaled."""
    split: Literal["test", "val", "train"] = "test"
    """Part of the data set. Choices, such as of steps or of sigma, are made on val, and verdicts on test."""
    images: int = Field(500, ge=1)
    """Number of images, balanced over the classes."""
    every: int | None = Field(None, ge=1)
    """Take the images 0, EVERY, 2 EVERY, ... instead, as published protocols do."""

    classifier: Plugin
    """The classifier that votes: a name (`cnn:path=FILE`) or a Python file."""
    purifiers: Annotated[list[Annotated[Plugin, BeforeValidator(read_purifier)]], _Split] = Field(min_length=1)
    """Comma-separated names (`pf-ode:steps=8`) or Python files; `none@cnn:path=FILE` has its own classifier, one for
    each noise level with `{sigma}` in FILE."""
    networks: dict[str, str] = {}
    """ROLE=NETWORK, repeatable: a bundled or published name (`mnist5k/edm`, `cd-lpips`), a file, a folder or a hub id;
    KIND:NAME for files that do not name their kind (docs/networks.md)."""

    sigmas: Annotated[list[_Sigma], _Split] = Field(min_length=1)
    """Comma-separated standard deviations of the noise, in [0,1] pixel units."""
    certifier: Annotated[str, AfterValidator(_known_certifier)] = _DEFAULT_CERTIFIER
    """A rule of fixed N: cohen, two-sided, multi-class, randomised, anytime or e-process. Or a sequential rule: tight,
    parity, half-point, fast, or acr for average certified radii."""
    label_aware: bool = False
    """Stop drawing for images whose selected class is wrong (sequential rules)."""
    n0: int = Field(100, ge=1)
    """Draws that select the class."""
    n: int = Field(10_000, ge=1)
    """Draws that bound the probability of the class (rules of fixed N)."""
    n_max: int | None = Field(None, ge=1)
    """Most draws of a sequential rule, instead of its own maximum."""
    alpha: float = Field(0.001, gt=0, lt=1)
    """Probability that a certificate is wrong."""
    radii: Annotated[list[_Radius], _Split, _Ascending] = Field([0.0, 0.25, 0.5, 0.75, 1.0], min_length=1)
    """Comma-separated L2 radii of tables; a sequential rule decides only these (`acr` also every multiple of 0.01)."""
    radius_digits: int | None = Field(None, ge=1)
    """Significant digits of radii (rules of fixed N; all by default). Published logs have 3."""
    seed: int = Field(0, ge=0)
    """Seed of the noise."""
    noise: Literal["gaussian", "discrete"] = "gaussian"
    """gaussian (in float32) or discrete: rounded to the 256 levels of the images and sampled exactly, so that no
    certificate depends on floating-point arithmetic (docs/certifiers.md)."""

    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "fp32"
    """Precision of the purifiers' networks: fp32, tf32 (NVIDIA GPUs), bf16, fp16 or auto."""
    channels_last: bool | Literal["auto"] = False
    """Memory format of the networks' input: true (channels innermost), false or auto."""
    compile: Literal["no", "default", "reduce-overhead", "max-autotune", "auto"] = "no"
    """Mode of torch.compile: no, default, reduce-overhead (CUDA graphs), max-autotune or auto."""
    compute: Annotated[dict[str, dict[str, Any]], PlainValidator(own_options)] = {}
    """NETWORK.OPTION=VALUE, repeatable: precision, channels_last or compile of a single network, by its role or
    `classifier`, where it differs from the others: `classifier.compile=no`."""
    rows: _CountOrAuto = "auto"
    """Rows in each call of a network, or auto (100 on a CPU and 500 on a GPU if networks are not compiled). Unlike the
    batch, they are part of a cell's identity."""

    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    """auto, cpu, cuda or cuda:N."""
    workers: int = Field(0, ge=0)
    """Number of processes; 0 is one per core, or per GPU."""
    executor: Literal["local", "ray"] = "local"
    """local (this machine) or ray (several machines: docs/cluster.md)."""
    address: str = "local"
    """Address of a running Ray cluster, or auto; `local` starts Ray on this machine."""
    batch: _CountOrAuto = 500
    """Draws that go through the networks together, or auto."""
    block: int = Field(100, ge=1)
    """Draws of an image that are stored together."""
    audit: float = Field(0.01, ge=0, le=1)
    """Share of the blocks that are counted again in other batches, at least 20 of a cell; a vote that differs fails the
    cell. A run with 0 is reported as one without audit."""
    timeout: float = Field(1800, gt=0, le=1e6)
    """Seconds after which a batch without a result ends the run."""

    @property
    def classifiers(self) -> list[Plugin]:
        """The classifier behind each purifier: its own, or that of the preset."""
        return [purifier.classifier or self.classifier for purifier in self.purifiers]

    @model_validator(mode="after")
    def fields_agree(self) -> Preset:
        if self.classifier.classifier is not None:
            raise ValueError("classifier: it has no classifier of its own; a purifier may have one")
        if self.classifier.by_sigma:
            raise ValueError(f"classifier: it is one for all sigmas; {EACH_SIGMA} is for the classifier of a purifier")
        refuse_draws(self.block, n0=self.n0, n=self.n, n_max=self.n_max)
        if self.certifier in rules.SEQUENTIAL and self.alpha >= 0.5:
            raise ValueError(f"alpha must be below 0.5 for the certifier {self.certifier!r}, got {self.alpha:g}")
        if self.label_aware and self.certifier not in rules.SEQUENTIAL:
            raise ValueError(
                f"label_aware stops images early, which the certifier {self.certifier!r} never does; choose one of "
                + ", ".join(rules.SEQUENTIAL)
            )
        if self.executor != "ray" and self.address != "local":
            raise ValueError(f"the address {self.address} is of a Ray cluster; say --executor ray, too")
        return self


def names() -> list[str]:
    """The presets that come with the project."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def _read(name: str, overridden: Collection[str] = (), within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The fields of a preset file, on top of those of the preset that it `extends` (by name, or path beside it).

    Parameters:
        overridden: fields that the user replaces; their values in the file are not checked.
        within: the presets that extend it, the one that the user named first. Code may lie in that one's folder.
    """
    path = Path(name) if name.endswith(".toml") else _FOLDER / f"{name}.toml"
    if not path.is_file():
        if name.endswith(".toml"):
            raise PresetError(f"{path} is not a file; copy one of {_FOLDER} to start from")
        raise PresetError(nearest("preset", name, names()) + "; or give the path of a .toml file")
    if path.resolve() in map(Path.resolve, within):
        raise PresetError(f"{path} extends itself; remove `extends` from it, or from the preset that it extends")
    try:
        fields = read_toml(path)
    except (OSError, ValueError) as error:  # ValueError: it is no TOML, or no UTF-8
        raise PresetError(f"{path} cannot be read: {error}") from error
    within = (*within, path.absolute())
    try:
        fields = with_code_beside(fields, path, overridden, within[0].parent)
    except InputError as error:
        raise PresetError(str(error)) from error
    base = fields.pop("extends", None)
    inherited = {}
    if base is not None:
        if not isinstance(base, str):
            raise PresetError(f"{path}: extends must be the name or path of a preset, got {base!r}")
        beside = str(path.parent / str(base)) if str(base).endswith(".toml") else str(base)
        inherited = _read(beside, overridden, within)
    merged = {**inherited, "name": path.stem, **fields}
    if "n" in fields and merged.get("certifier", _DEFAULT_CERTIFIER) in (*rules.SEQUENTIAL, "sequential"):
        raise PresetError(
            f"{path} names n, which the certifier {merged.get('certifier', _DEFAULT_CERTIFIER)!r} does not take: say "
            '`certifier = "cohen"` for as many draws for every image, or n_max for the most draws'
        )
    return merged


def load_preset(name: str, overrides: Mapping[str, Any]) -> Preset:
    """Read a preset, by name or path of a TOML file, with some fields replaced.

    Parameters:
        overrides: field -> value, or its text as on the command line; None keeps the preset's value. `networks` (a
            dictionary, or a list of ROLE=NETWORK) replaces the roles that it names and keeps the others.

    Raises:
        PresetError: unknown preset or field, or a value that is refused.
    """
    replaced = {k: v for k, v in overrides.items() if v is not None}
    fields = _read(name, replaced)
    if "networks" in replaced:
        replaced["networks"] = {**fields.get("networks", {}), **_by_role(replaced["networks"])}
    try:
        if "compute" in replaced:
            own, before = own_options(replaced["compute"]), fields.get("compute", {})
            replaced["compute"] = {**before, **{name: {**before.get(name, {}), **own[name]} for name in own}}
        preset = Preset(**{**fields, **replaced})
    except ValidationError as error:
        raise PresetError("; ".join(explain(e) for e in error.errors()) + f" (preset {name})") from error
    except ValueError as error:
        raise PresetError(f"compute: {error}") from error
    refused, instead = ("n", "n_max") if preset.certifier in rules.SEQUENTIAL else ("n_max", "n")
    if refused in replaced:
        raise PresetError(f"{refused}: the certifier {preset.certifier!r} does not take it; {instead} bounds its draws")
    return preset


def _by_role(networks: Mapping[str, str] | Sequence[str]) -> dict[str, str]:
    """Networks by role, from a dictionary or from texts of the form ROLE=NETWORK."""
    if isinstance(networks, Mapping):
        return dict(networks)
    pairs = [text.partition("=") for text in networks]
    if not all(role and equals and network for role, equals, network in pairs):
        raise PresetError(f"networks: each must be of the form ROLE=NETWORK, got {' '.join(networks)!r}")
    return {role: network for role, _, network in pairs}


def explain(error: Mapping[str, Any]) -> str:
    """One of pydantic's errors as a sentence that names the field."""
    field = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return nearest("field", field, Preset.model_fields)
    problem = error["msg"].removeprefix("Value error, ")
    if not field:  # several fields do not agree, and the message names them
        return problem
    return f"{field}: {problem}" + ("" if error["type"] == "missing" else f", got {error['input']!r}")
