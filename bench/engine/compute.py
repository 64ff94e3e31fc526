"""How networks compute: floating-point type, memory format, compilation, and a fixed number of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.engine.versions import DEFAULT_ROWS
from bench.errors import InputError
from purifiers.nets.architectures.group_norm import with_channels_last_norms

PRECISIONS = {  # tf32 is how a GPU multiplies float32, not a type
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
_GRAPHED = ("reduce-overhead", "max-autotune")  # modes that record CUDA graphs, whose outputs the next call overwrites


class FixedRows(nn.Module):
    """A network with a fixed number of rows per call: batches are cut into pieces, and the last piece is padded.

    Kernels are chosen by shape, so a row's result would depend on its batch otherwise. A compiled network is compiled
    for one shape only.

    Parameters:
        network: a module or function of tensors `[size,...]`; each row of its output depends on the same row of each.
        size: rows through the network at once.
        reused: the network's output lies in memory that its next call overwrites (CUDA graphs).

    Attributes:
        evaluated: rows that went through so far, without padding.
    """

    def __init__(self, network: Any, size: int, reused: bool = False):
        super().__init__()
        self.network, self.size, self.reused, self.evaluated = network, size, reused, 0

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs `[B,...]`, any B, to output `[B,...]`."""
        batch, out = len(inputs[0]), None
        self.evaluated += batch
        for start in range(0, batch, self.size):
            rows = min(self.size, batch - start)
            part = tuple(_padded(tensor[start : start + rows], self.size) for tensor in inputs)
            if self.reused:
                torch.compiler.cudagraph_mark_step_begin()
            result = self.network(*part)
            if not isinstance(result, Tensor) or len(result) != self.size:
                got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
                raise InputError(f"it returned {got} for {self.size} rows; it must return a tensor with as many rows")
            if batch == self.size and not self.reused:
                return result
            if out is None:
                out = result.new_empty(batch, *result.shape[1:])
            out[start : start + rows] = result[:rows]
        assert out is not None, "a batch has rows"
        return out


def _padded(tensor: Tensor, rows: int) -> Tensor:
    """`[b,...]` to `[rows,...]`, padded with copies of its first row, which is a valid input."""
    missing = rows - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing else tensor


def prepare_network(network: Any, compute: Mapping[str, Any], device: torch.device) -> FixedRows:
    """A network with fixed rows, in the layout of a cell; compiled at its first call if the cell has `compile`.

    Parameters:
        network: a module, or any function of tensors (which keeps its layout and is not compiled).
        compute: as `Cell.compute`: `rows`, and optionally `channels_last` and `compile` (a mode of torch.compile).
    """
    rows = int(compute.get("rows", DEFAULT_ROWS[device.type]))
    if not isinstance(network, nn.Module):
        return FixedRows(network, rows)
    mode = compute.get("compile")
    if compute.get("channels_last"):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if mode and device.type == "cpu":
            network = with_channels_last_norms(network)
        network = _ChannelsLast(network)
    compiled: Any = torch.compile(network, dynamic=False, mode=str(mode)) if mode else network
    return FixedRows(compiled, rows, reused=device.type == "cuda" and mode in _GRAPHED)


class _ChannelsLast(nn.Module):
    """Passes images to a network with their channels innermost."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last), *others)


@contextmanager
def float32_arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Inside the context a GPU multiplies float32 in tf32 if the precision is `tf32`; otherwise in full float32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    if device.type == "cuda" and precision == "tf32":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def refuse_unsupported(precision: str, mode: str, device: str) -> None:
    """Raise ValueError if the device does not support the precision or the compile mode."""
    if precision == "tf32" and not device.startswith("cuda"):
        raise InputError("precision tf32 is how NVIDIA GPUs multiply float32; on this device use fp32 or bf16")
    if mode == "reduce-overhead" and not device.startswith("cuda"):
        raise InputError(
            "compile = 'reduce-overhead' records CUDA graphs and needs a GPU; on this device use 'default'"
        )
