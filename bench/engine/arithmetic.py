"""The arithmetic of a precision: tf32 on a GPU, and bf16 and fp16 on CPUs without instructions for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bench.engine.devices import has_instructions
from bench.errors import InputError

PRECISIONS = {  # tf32 is how a GPU multiplies float32, not a type
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_NARROW = {torch.bfloat16: "bf16", torch.float16: "fp16"}
_CONVOLUTIONS = {getattr(F, f"conv{kind}{n}d") for kind in ("", "_transpose") for n in (1, 2, 3)}
_MATRICES = {torch.matmul, torch.mm, torch.bmm, torch.addmm, torch.baddbmm, torch.einsum}
_METHODS = {Tensor.matmul, Tensor.__matmul__, Tensor.mm, Tensor.bmm}
_LAYERS = {F.linear, F.bilinear, F.scaled_dot_product_attention, F.multi_head_attention_forward}
_PRODUCTS = frozenset(_CONVOLUTIONS | _MATRICES | _METHODS | _LAYERS)


def is_emulated(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether products in this type are `Widened` on this device."""
    return device.type == "cpu" and dtype in _NARROW and not has_instructions(_NARROW[dtype])


class Widened(nn.Module):
    """A network in bf16 or fp16 whose products are computed in float32, for CPUs without instructions for its type.

    torch emulates a product there, many times slower. Here its operands, which are rounded to the type already, are
    multiplied and added in float32, and the result is rounded to the type: what the instructions do, but for the order
    of the additions. Attention is one product.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        with _WideProducts():
            return self.network(*inputs)


class _WideProducts(TorchFunctionMode):
    """Inside this context products of bf16 or fp16 are those of float32, rounded."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function not in _PRODUCTS:
            return function(*args, **kwargs)
        given = [*args, *kwargs.values()]
        narrow = next((value.dtype for value in given if isinstance(value, Tensor) and value.dtype in _NARROW), None)
        wide = function(*map(_widened, args), **{name: _widened(value) for name, value in kwargs.items()})
        return wide if narrow is None else _rounded(wide, narrow)


def _widened(value: Any) -> Any:
    if not isinstance(value, Tensor) or value.dtype not in _NARROW:
        return value
    return _cast(value, torch.float32) if torch.compiler.is_compiling() else value.float()


def _rounded(result: Any, dtype: torch.dtype) -> Any:
    if isinstance(result, tuple):  # of `multi_head_attention_forward`
        return tuple(_rounded(part, dtype) for part in result)
    if not isinstance(result, Tensor):
        return result
    return _cast(result, dtype) if torch.compiler.is_compiling() else result.to(dtype)


@torch.library.custom_op("purifybench::cast", mutates_args=())
def _cast(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A cast that Inductor does not see through: it would drop the rounding between two casts of its own."""
    return value.to(dtype)


@_cast.register_fake
def _cast_of_fake(value: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(value, dtype=dtype)


class InArithmetic(nn.Module):
    """A network whose float32 arithmetic differs from that of the cell."""

    def __init__(self, network: Any, precision: str, device: torch.device):
        super().__init__()
        self.network, self.precision, self.device = network, precision, device

    def forward(self, *inputs: Tensor) -> Tensor:
        with float32_arithmetic(self.precision, self.device):
            return self.network(*inputs)


@contextmanager
def float32_arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Inside the context a GPU multiplies float32 in tf32 if the precision is `tf32`, and in full if it is `fp32`."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cuda" and precision in ("tf32", "fp32"):
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def refuse_unsupported(precision: str, mode: str, device: str) -> None:
    """Raise InputError if the device does not support the precision or the compile mode."""
    if precision == "tf32" and not device.startswith("cuda"):
        raise InputError("precision tf32 is how NVIDIA GPUs multiply float32; on this device use fp32 or bf16")
    if mode == "reduce-overhead" and not device.startswith("cuda"):
        raise InputError(
            "compile = 'reduce-overhead' records CUDA graphs and needs a GPU; on this device use 'default'"
        )
