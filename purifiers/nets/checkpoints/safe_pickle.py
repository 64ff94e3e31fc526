"""Tensors and plain containers of the pickles of NVlabs/edm and edm2. Nothing in a file is imported or called.

EDM's files contain the source of their classes, and their own loader executes it. Here a `_Record`, which only stores
its arguments, replaces every class and function in a file, and names outside the list below are refused.
"""

from __future__ import annotations

import io
import pickle
import warnings
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.files import open_file
from purifiers.nets.hub.cards import WeightsError

_PERSISTENT = "torch_utils.persistence._reconstruct_persistent_obj"  # EDM's, for an object that carries its source
TENSOR, PARAMETER = "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter"
_STORAGE = "torch.storage._load_from_bytes"  # in torch, this would unpickle anything
_ROOTS = ("EDMPrecond", "Precond")  # classes of whole networks, of EDM and of EDM2
_CONTAINERS = {  # EDM's EasyDict is a dict with attributes, as OrderedDict is
    "collections.OrderedDict": OrderedDict,
    "builtins.set": set,
    "dnnlib.util.EasyDict": OrderedDict,
}
_INERT = {
    *(_PERSISTENT, TENSOR, PARAMETER, _STORAGE),
    *(f"torch.nn.modules.container.{name}" for name in ("ModuleDict", "ModuleList", "Sequential")),
    *("numpy.dtype", "numpy.ndarray"),  # constants such as sqrt(1/2), not used here
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")),
}


class _Record:
    """Stand-in for an object in a file: its name, arguments and state, without behaviour."""

    __slots__ = ("args", "state")
    origin = ""

    def __init__(self, *args: Any):
        self.args, self.state = args, None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Unpickler(pickle._Unpickler):  # type: ignore[name-defined]
    """Builds containers and records; refuses every other name before its use.

    It is the one in Python, whose memo is a dictionary: the one in C makes a table as long as the largest index.
    """

    def find_class(self, module: str, name: str) -> type:
        full = f"{module}.{name}"
        if full in _CONTAINERS:
            return _CONTAINERS[full]
        if full not in _INERT:
            raise WeightsError(
                f"it would run or import {full!r}, which is neither a tensor nor a plain container: refused, and "
                "nothing was executed. Do not open it by other means"
            )
        # A new class each time, because a file can change the attributes of its classes.
        return type(name, (_Record,), {"__slots__": (), "origin": full})

    def persistent_load(self, pid: Any) -> Any:
        raise WeightsError("it refers to objects outside of the file: refused")


def read_pickle(path: Path) -> tuple[dict[str, Any] | None, dict[str, Tensor]]:
    """Constructor arguments and state of the network in an EDM pickle; arguments are None for a plain state dict.

    Raises:
        WeightsError: the file would run code, is damaged, or holds no network.
    """
    try:
        with open_file(path) as file:
            content = _Unpickler(file).load()
        network = content.get("ema", content) if isinstance(content, dict) else content
        storages: dict[int, Tensor] = {}
        if isinstance(network, _Record):
            kind, attributes = _described(network)
            if kind not in _ROOTS:
                raise WeightsError(f"its network is a {kind}; only {' and '.join(_ROOTS)} are supported")
            return {**attributes["_init_kwargs"]}, {n: _tensor(value, storages) for n, value in _entries(network)}
        if not isinstance(network, dict) or not network:
            raise WeightsError(f"it holds {type(network).__name__}, neither an EDM network nor a state dict")
        return None, {str(n): _tensor(value, storages) for n, value in network.items()}
    except WeightsError:
        raise
    except Exception as error:  # a malformed stream can raise any error; no code of the file has run
        raise WeightsError(f"it is cut off or damaged ({type(error).__name__}: {error})") from error


def _described(record: _Record) -> tuple[str, Mapping[str, Any]]:
    """Name of the class of a module, and its attributes."""
    if record.origin == _PERSISTENT:
        (meta,) = record.args
        return meta["class_name"], meta["state"]
    if not isinstance(record.state, Mapping):
        raise WeightsError(f"it holds {record.origin} instead of a module")
    return type(record).__name__, record.state


def _entries(module: _Record, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Parameters and buffers of a module and its submodules, with the names of `state_dict`."""
    _, attributes = _described(module)
    for kind in ("_parameters", "_buffers"):
        yield from ((f"{prefix}{n}", value) for n, value in attributes[kind].items() if value is not None)
    for name, child in attributes["_modules"].items():
        if child is not None:
            yield from _entries(child, f"{prefix}{name}.")


def _tensor(value: Any, storages: dict[int, Tensor]) -> Tensor:
    """The tensor that a record describes.

    Raises:
        WeightsError: the record describes no tensor.
        ValueError: the tensor extends beyond its storage.
    """
    if isinstance(value, _Record) and value.origin == PARAMETER:
        value = value.args[0]
    if not isinstance(value, _Record) or value.origin != TENSOR:
        raise WeightsError(f"it holds {getattr(value, 'origin', type(value).__name__)} instead of a tensor")
    storage, offset, size, stride = value.args[:4]
    if not isinstance(storage, _Record) or storage.origin != _STORAGE:
        raise WeightsError("it holds a tensor without storage")
    if id(storage) not in storages:
        stored = torch.load(io.BytesIO(storage.args[0]), map_location="cpu", weights_only=True)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # deprecation of typed storages
            storages[id(storage)] = torch.empty(0, dtype=stored.dtype).set_(stored.untyped())
    flat = storages[id(storage)]
    reach = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1 if 0 not in size else 0
    if min((offset, *size, *stride), default=0) < 0 or reach > len(flat):
        raise ValueError(f"a tensor of size {size}, stride {stride}, offset {offset} in {len(flat)} numbers")
    return torch.as_strided(flat, tuple(size), tuple(stride), offset)
