"""Types and ranges of the content of a run's folder, checked once where it is read; unknown fields are kept."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from bench.certify.base import MOST_DRAWS
from bench.errors import InputError
from bench.files import validated
from bench.store.database import INTEGERS, SECONDS, StoreError

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
    """The fields of a preset from which certificates are computed, or which pages show.

    What decides a certificate has no default: every version has written it, `radius_digits` since there is one.
    """

    certifier: str
    alpha: float = Field(gt=0, lt=1)
    n0: _Draws
    n: _Draws | None
    n_max: _Draws | None
    block: _Draws
    images: _Class
    radii: list[_Radius]
    seed: int
    label_aware: bool
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
    waited: float | None = Field(None, ge=0, le=1)


class _Trust(_Model):
    audits: dict[str, _Facts] = {}
    checks: dict[str, _Facts] = {}


class _Manifest(_Session):
    format: int
    preset: _Preset
    sweep: list[str]
    labels: dict[_Image, _Class]
    classes: list[str]
    families: dict[str, str]
    pixels: dict[_Image, str] = {}
    sessions: list[_Session] = []
    trust: _Trust | None = None
    tuning: _Facts | None = None
    start_s: dict[str, float] | None = None
    occupancy: float | None = None
    data: str = ""


def refuse_wrong(path: Path, manifest: dict[str, Any], blocks: pd.DataFrame | None = None) -> dict[str, Any]:
    """A manifest, empty if no run has begun, whose fields are there and have possible values.

    Parameters:
        path: the file that is named in an error.
        blocks: columns `COLUMNS`, whose types and values are checked, too.

    Raises:
        StoreError: a field is missing or wrong, or a column; the message names the first one.
    """
    try:
        if manifest:
            validated(_Manifest, manifest)
        if blocks is not None:
            _refuse_blocks(blocks)
    except InputError as error:
        raise StoreError(f"{path}: {error}; no run writes such a file, so ask for it again") from error
    return manifest


def take_checksum(manifest: dict[str, Any]) -> None:
    """Remove the checksum from an exported manifest; raises ValueError or KeyError if it does not hold.

    It is the last key. Exports of earlier versions have none and end with `cells`, so a manifest with a damaged name of
    the checksum does not pass for one of those.
    """
    *_, last = manifest
    if last != "cells" and manifest.pop("crc") != checksum(manifest):
        raise ValueError("its checksum does not hold")


def checksum(manifest: dict[str, Any]) -> int:
    """CRC-32 of an exported manifest without its checksum, independent of white space."""
    return zlib.crc32(json.dumps(manifest).encode())


def _refuse_blocks(blocks: pd.DataFrame) -> None:
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
