"""Plain state dicts in files of `torch.save` and safetensors. Nothing but tensors is read."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from zipfile import BadZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

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
        with warnings.catch_warnings(action="ignore"):  # deprecation of typed storages
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(_refusal(path, error)) from error
    except Exception as error:  # damaged files raise many types of zip, I/O and index errors
        raise WeightsError(f"it is cut off or damaged ({type(error).__name__}: {_first_line(error)})") from error
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()) or not content:
        names = ", ".join(map(str, list(content)[:6])) if isinstance(content, dict) else type(content).__name__
        raise WeightsError(f"it holds no plain state dict, but {names or 'nothing'}")
    return {str(name): value for name, value in content.items()}


def _refusal(path: Path, error: Exception) -> str:
    """The reason why torch does not unpickle a file."""
    try:
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (RuntimeError, ValueError, OSError, BadZipFile, pickle.UnpicklingError):
        unsafe = []
    if unsafe:
        return f"it would run or import {', '.join(map(repr, unsafe))}: refused, and nothing was executed"
    return f"it is damaged, or would run code: refused, and nothing was executed ({_first_line(error)})"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
