"""How networks compute: floating-point type, memory format, compilation, always in batches of one shape."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import PurifyBenchError
from purifiers.nets.architectures.group_norm import with_channels_last_norms

PRECISIONS = {  # tf32 is how a GPU multiplies float32, not a type
    "fp32": torch.float32,
    "tf32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}
GRAPHED = ("reduce-overhead", "max-autotune")  # modes that record CUDA graphs, whose outputs the next call overwrites


class CompileError(PurifyBenchError, RuntimeError):
    """A network cannot be compiled here; the message names the remedy."""


class FixedRows(nn.Module):
    """A network that always sees the same number of rows: a batch is cut into pieces, the last one is padded.

    So nothing is compiled twice, and the arithmetic of a row is that of one kernel whatever batch it came in.

    Parameters:
        network: takes tensors `[rows,...]`, each row of its output a function of the same row of each.
        rows: through the network at once.
        reused: whether the network's output lives in memory that its next call overwrites (CUDA graphs).
    """

    def __init__(self, network: Any, rows: int, reused: bool = False):
        super().__init__()
        self.network, self.rows, self.reused = network, rows, reused

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs `[B,...]`, any B, to output `[B,...]`."""
        batch, out = len(inputs[0]), None
        for start in range(0, batch, self.rows):
            kept = min(self.rows, batch - start)
            part = tuple(padded(tensor[start : start + kept], self.rows) for tensor in inputs)
            if self.reused:
                torch.compiler.cudagraph_mark_step_begin()
            result = self.network(*part)
            if batch == self.rows and not self.reused:
                return result
            if out is None:
                out = result.new_empty(batch, *result.shape[1:])
            out[start : start + kept] = result[:kept]
        assert out is not None, "a batch has rows"
        return out


def padded(tensor: Tensor, rows: int) -> Tensor:
    """`[b,...]` to `[rows,...]`, filled with copies of its first row: values that the network knows how to take."""
    missing = rows - len(tensor)
    return torch.cat([tensor, tensor[:1].expand(missing, *tensor.shape[1:])]) if missing else tensor


def compiled(network: nn.Module, mode: str, rows: int, device: torch.device) -> FixedRows:
    """A network compiled for `rows` rows; the first call compiles it."""
    made: Any = torch.compile(network, dynamic=False, mode=mode)
    return FixedRows(made, rows, reused=device.type == "cuda" and mode in GRAPHED)


def prepare_network(module: nn.Module, compute: Mapping[str, Any], device: torch.device) -> nn.Module:
    """A network laid out and, at its first call, compiled as a cell asks.

    Parameters:
        compute: `channels_last`, `compile` (a mode of torch.compile) and `rows`, as `Cell.compute`; empty for eager.
    """
    if compute.get("channels_last"):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if "compile" in compute and device.type == "cpu":
            module = with_channels_last_norms(module)
        module = ChannelsLast(module)
    return compiled(module, str(compute["compile"]), int(compute["rows"]), device) if "compile" in compute else module


def compile_now(call: Callable[[Tensor], Any], image: Tensor) -> None:
    """Make a first call, which compiles; raises CompileError where torch cannot do it here."""
    try:
        with warnings.catch_warnings():
            # Of the compiler about diffusers' own caches, once for every network: nothing that a user could act on.
            warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`", UserWarning)
            call(image)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        problem = str(error).strip().partition("\n")[0]
        raise CompileError(
            f"torch.compile failed ({type(error).__name__}: {problem}). It needs a C++ compiler on a CPU and Triton on "
            "a GPU: install them, or give --compile no"
        ) from error
    if image.device.type == "cuda":
        torch.cuda.synchronize(image.device)


class ChannelsLast(nn.Module):
    """A network whose images arrive with their channels innermost."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last), *others)


@contextmanager
def float32_arithmetic(precision: str, device: torch.device) -> Iterator[None]:
    """Let a GPU multiply float32 in tf32 for a while, where a cell asks for it; elsewhere float32 means float32."""
    if device.type != "cuda" or precision != "tf32":
        yield
        return
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]


def refuse_unsupported(precision: str, mode: str, device: str) -> None:
    """Raise ValueError where a device cannot do what is asked for."""
    if precision == "tf32" and not device.startswith("cuda"):
        raise ValueError("precision tf32 is how NVIDIA GPUs multiply float32; on this device use fp32 or bf16")
    if mode == "reduce-overhead" and not device.startswith("cuda"):
        raise ValueError(
            "compile = 'reduce-overhead' records CUDA graphs and needs a GPU; on this device use 'default'"
        )
