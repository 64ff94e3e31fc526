"""Plain state dicts in files of `torch.save` and safetensors. Nothing but tensors is read."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from zipfile import BadZipFile, ZipFile, is_zipfile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bench.files import first_line, open_file
from purifiers.nets.hub.cards import WeightsError


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file; raises WeightsError for a damaged file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"it is cut off or damaged ({error})") from error


def read_torch(path: Path) -> dict[str, Tensor]:
    """The state dict in a file of `torch.save`, read with `weights_only=True`.

    Raises:
        WeightsError: the file would run code (the message names the function), is damaged, or holds other objects.
    """
    try:
        _refuse_compressed(path)
        with open_file(path) as file, warnings.catch_warnings(action="ignore"):  # deprecation of typed storages
            content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except WeightsError:
        raise
    except Exception as error:  # damaged files raise many types of zip, I/O and index errors
        raise WeightsError(f"it is cut off or damaged ({type(error).__name__}: {first_line(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()) or not content:
        names = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"it holds no plain state dict, but {names or 'nothing'}")
    return {str(name): value for name, value in content.items()}


def _refuse_compressed(path: Path) -> None:
    """Raise WeightsError for a zip file that unpacks to more than itself, which torch never writes."""
    if is_zipfile(path):
        with ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise WeightsError("it is compressed, which torch.save never does, and may unpack to any size")


def _refusal(path: Path, error: Exception) -> str:
    """The reason why torch does not unpickle a file."""
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, OSError, BadZipFile, pickle.UnpicklingError):
        unsafe = []
    if unsafe:
        return f"it would run or import {', '.join(map(repr, unsafe))}: refused, and nothing was executed"
    return f"it is damaged, or would run code: refused, and nothing was executed ({first_line(error)})"
