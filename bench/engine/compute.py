"""How networks compute: floating-point type, memory format, compilation, and a fixed number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.engine.arithmetic import InArithmetic, Widened, is_emulated
from bench.engine.versions import DEFAULT_ROWS
from bench.errors import InputError
from bench.records import Cell
from purifiers.nets.architectures.group_norm import with_channels_last_norms

CLASSIFIER = "classifier"  # the classifier among the names of networks, which are roles
_GRAPHED = ("reduce-overhead", "max-autotune")  # modes that record CUDA graphs, whose outputs the next call overwrites
_HASHED = "network "  # before a role among the names of a cell's hashes
_PLAIN = {"channels_last": False, "compile": "no"}  # values that `Cell.compute` leaves out


@dataclass(frozen=True)
class ComputeConfig:
    """How the networks of a sweep compute: `Cell.precision`, `Cell.compute` and the classifier's precision.

    Attributes:
        rows: in one call of a network.
        classifier: precision of the classifier; None where it has no such parameter.
        differing: role, or `classifier` -> the options in which this network differs: `precision` (not of the
            classifier), `channels_last` and `compile`.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compile: str = "no"
    rows: int = DEFAULT_ROWS["cpu"]
    classifier: str | None = None
    differing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)

    def of(self, name: str) -> dict[str, Any]:
        """`precision`, `channels_last` and `compile` of one network, by its role or `classifier`."""
        common = {"precision": self.precision, "channels_last": self.channels_last, "compile": self.compile}
        return common | dict(self.differing.get(name, {}))

    def apply(self, cell: Cell) -> Cell:
        """The same cell in this configuration. Only networks that compute differently from the others add facts."""
        roles = sorted(_roles(cell))
        ways = {role: self.of(role) for role in roles}
        alike = bool(roles) and all(way == ways[roles[0]] for way in ways.values())
        common = ways[roles[0]] if alike else self.of("")
        compute: dict[str, Any] = {"rows": self.rows}
        compute |= {name: common[name] for name, plain in _PLAIN.items() if common[name] != plain}
        if not alike and (networks := {role: own for role, way in ways.items() if (own := _beyond(way, common))}):
            compute["networks"] = networks
        if own := _beyond({name: self.of(CLASSIFIER)[name] for name in _PLAIN}, common):
            compute[CLASSIFIER] = own
        parameters = dict(cell.classifier_parameters)
        if self.classifier is not None:
            parameters.pop("precision", None)
            parameters |= {} if self.classifier == "fp32" else {"precision": self.classifier}
        return replace(cell, precision=common["precision"], compute=compute, classifier_parameters=parameters)

    def as_json(self) -> dict[str, Any]:
        """All fields; without `differing` if all networks compute alike."""
        return {name: value for name, value in asdict(self).items() if name != "differing" or value}


def _beyond(way: Mapping[str, Any], common: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `way` that differ from `common`."""
    return {name: value for name, value in way.items() if value != common[name]}


def compute_of(cell: Cell, name: str) -> dict[str, Any]:
    """How one network of a cell computes, by its role or `classifier`: `rows`, `precision` and options that are set."""
    compute: dict[str, Any] = dict(cell.compute)
    networks, classifier = compute.pop("networks", {}), compute.pop(CLASSIFIER, {})
    merged = {"precision": cell.precision, **compute, **(classifier if name == CLASSIFIER else networks.get(name, {}))}
    return {option: value for option, value in merged.items() if option not in _PLAIN or value != _PLAIN[option]}


def _roles(cell: Cell) -> list[str]:
    """The networks of a cell's purifier."""
    return [name.removeprefix(_HASHED) for name in cell.hashes if name.startswith(_HASHED)]


def eager(cell: Cell, rows: int) -> Cell:
    """The cell with another number of rows and nothing compiled; each network keeps its precision and layout."""

    def kept(options: Mapping[str, Any]) -> dict[str, Any]:
        own = {name: value for name, value in options.items() if name not in ("compile", "rows")}
        return {name: kept(value) if isinstance(value, Mapping) else value for name, value in own.items()}

    return replace(cell, compute={**kept(cell.compute), "rows": rows})


class FixedRows(nn.Module):
    """A network with a fixed number of rows per call: batches are cut into pieces, and the last piece is padded.

    Kernels are chosen by shape, so a row's result would depend on its batch otherwise. A compiled network is compiled
    for one shape only. A CPU rounds the functions of the last few values of a tensor differently if their number is no
    multiple of 32 (torch's vector loops have a scalar remainder); a `size` that is a multiple of 32 excludes this for
    any network, and other sizes for networks with layers of a multiple of 8 values, as the bundled ones.

    Parameters:
        network: a module or function of tensors `[size,...]`; each row of its output depends on the same row of each.
        size: rows through the network at once.
        reused: the network's output lies in memory that its next call overwrites (CUDA graphs).
        inner: the network inside of `network`, whose rows are counted instead; preprocessing is around it.

    Attributes:
        evaluated: rows that went through so far, without padding.
    """

    def __init__(self, network: Any, size: int, reused: bool = False, inner: FixedRows | None = None):
        super().__init__()
        self.network, self.size, self.reused, self.evaluated = network, size, reused, 0
        self.inner = inner

    @property
    def parts(self) -> list[Any]:
        """This module, and the networks in it."""
        return [self, self.network, *(self.inner.parts if self.inner is not None else [])]

    def resize(self, size: int) -> None:
        """Take another number of rows at once, for measurements of networks that are not compiled."""
        self.size = size
        if self.inner is not None:
            self.inner.size = size

    def forward(self, *inputs: Tensor) -> Tensor:
        """Inputs `[B,...]`, any B, to output `[B,...]`."""
        batch, out = len(inputs[0]), None
        for start in range(0, batch, self.size):
            rows = min(self.size, batch - start)
            part = tuple(_padded(tensor[start : start + rows], self.size) for tensor in inputs)
            if self.reused:
                torch.compiler.cudagraph_mark_step_begin()
            before = self.inner.evaluated if self.inner is not None else 0
            result = self.network(*part)
            calls = (self.inner.evaluated - before) // self.size if self.inner is not None else 1
            self.evaluated += calls * rows
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


def prepare_network(
    network: Any, compute: Mapping[str, Any], device: torch.device, ambient: str | None = None
) -> FixedRows:
    """A network with fixed rows, in its layout; compiled at its first call if it has `compile`.

    Parameters:
        network: a module, or any function of tensors (which keeps its layout and is not compiled).
        compute: as `compute_of` returns it: `rows`, and optionally `precision`, `channels_last` and `compile` (a mode
            of torch.compile).
        ambient: precision of the cell, whose float32 arithmetic the engine sets; None: that of the network.
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
    if any(is_emulated(weights.dtype, device) for weights in network.parameters()):
        network = Widened(network)
    prepared: Any = torch.compile(network, dynamic=False, mode=str(mode)) if mode else network
    own = compute.get("precision", ambient)
    if ambient is not None and own != ambient and "tf32" in (own, ambient):
        prepared = InArithmetic(prepared, str(own), device)
    return FixedRows(prepared, rows, reused=device.type == "cuda" and mode in _GRAPHED)


class _ChannelsLast(nn.Module):
    """Passes images to a network with their channels innermost."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        return self.network(x.contiguous(memory_format=torch.channels_last), *others)
