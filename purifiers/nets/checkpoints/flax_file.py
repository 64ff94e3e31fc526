"""Checkpoints of flax, read without flax: msgpack, a format of data without code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from torch import Tensor

from bench.files import read_bytes
from purifiers.nets.hub.cards import WeightsError

NDARRAY, SCALAR = 1, 3  # extension types of flax.serialization
_AVERAGED = "params_ema"  # the exponential moving average, the one used for evaluation


def read_flax(path: Path) -> dict[str, Tensor]:
    """The averaged parameters of a training state, by path (`Conv_0/kernel`).

    Raises:
        WeightsError: the file is no such state, is damaged, or holds values other than arrays.
    """
    try:
        tree = msgpack.unpackb(read_bytes(path), raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises its own errors and several of Python's
        raise WeightsError(
            f"it is no msgpack file, or it is cut off or damaged ({error or type(error).__name__})"
        ) from error
    if not isinstance(tree, dict) or not isinstance(tree.get(_AVERAGED), dict):
        content = ", ".join(map(str, tree)) if isinstance(tree, dict) else type(tree).__name__
        raise WeightsError(
            f"it is a msgpack file, but no training state with {_AVERAGED}: it holds {content or 'nothing'}"
        )
    return dict(_leaves(tree[_AVERAGED]))


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", _array(value, f"{prefix}{name}")


def _array(value: Any, name: str) -> Tensor:
    """An array in the format of flax: shape, name of the type, bytes in C order."""
    if not isinstance(value, msgpack.ExtType) or value.code not in (NDARRAY, SCALAR):
        raise WeightsError(f"{name} is {type(value).__name__}, not an array")
    try:
        shape, dtype, data = msgpack.unpackb(value.data, raw=False)
        if np.dtype(dtype).kind != "f":
            raise ValueError(f"its numbers are {dtype}")
        return torch.from_numpy(np.frombuffer(data, dtype).reshape(shape).astype(np.float32))
    except Exception as error:  # as above
        raise WeightsError(f"{name} is damaged ({str(error) or type(error).__name__})") from error
