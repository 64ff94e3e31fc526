"""Types and ranges of the content of a run's folder, checked once where it is read; unknown fields are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bench.certify.base import MOST_DRAWS
from bench.errors import InputError
from bench.files import validated
from bench.store.database import INTEGERS, SECONDS

if TYPE_CHECKING:
    import pandas as pd

_MOST = 2**31  # images, classes
TEXTS = ("cell", "stage", "device")
_Draws = Annotated[int, Field(ge=1, le=MOST_DRAWS)]
_Class = Annotated[int, Field(ge=0, lt=_MOST)]
_Image = Annotated[str, Field(pattern=r"^\d{1,10}$")]
_Radius = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Facts = Mapping[str, Any]


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _Preset(_Model):
    """The fields of a preset from which certificates are computed, or which pages show."""

    certifier: str = ""
    alpha: float = Field(0.5, gt=0, lt=1)
    n0: _Draws | None = None
    n: _Draws | None = None
    n_max: _Draws | None = None
    block: _Draws | None = None
    images: _Class | None = None
    radii: list[_Radius] = []
    radius_digits: int | None = Field(None, ge=1)
    title: str = ""
    dataset: str = ""
    networks: dict[str, str] = {}
    purifiers: list[_Facts] = []
    classifier: _Facts = {}


class _Session(_Model):
    devices: list[str] | None = None
    libraries: dict[str, str] | None = None
    blocks: int | None = None


class _Trust(_Model):
    audits: dict[str, _Facts] = {}
    checks: dict[str, _Facts] = {}


class _Manifest(_Session):
    format: int = 1
    preset: _Preset | None = None
    sweep: list[str] = []
    labels: dict[_Image, _Class] = {}
    pixels: dict[_Image, str] = {}
    classes: list[str] = []
    families: dict[str, str] = {}
    sessions: list[_Session] = []
    trust: _Trust | None = None
    tuning: _Facts | None = None
    start_s: dict[str, float] | None = None
    occupancy: float | None = None
    data: str = ""


def refuse_manifest(manifest: Mapping[str, Any]) -> None:
    """Raise InputError that names the first field of a manifest with a wrong type or an impossible value."""
    validated(_Manifest, dict(manifest))


def refuse_blocks(blocks: pd.DataFrame) -> None:
    """Raise InputError for wrong types or impossible values in blocks, columns `COLUMNS`; `decode` checks votes."""
    if blocks.empty:
        return
    for name in INTEGERS:
        if blocks[name].dtype.kind not in "iu" or blocks[name].min() < 0:
            raise InputError(f"the column {name} of the blocks holds values that are no counts")
    for name in SECONDS:
        if blocks[name].dtype.kind not in "fiu":
            raise InputError(f"the column {name} of the blocks holds values that are no seconds")
    for name in TEXTS:
        if not set(map(type, blocks[name].unique())) <= {str, bytes}:
            raise InputError(f"the column {name} of the blocks holds values that are no text")
    if blocks["image"].max() >= _MOST or (blocks["first"] + blocks["draws"]).max() > MOST_DRAWS:
        raise InputError(f"an image number is above {_MOST:,}, or an image has more than {MOST_DRAWS:,} draws")
