"""Convert the tensors of a checkpoint to the state of our module; refuse a file with missing or extra tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from bench.files import read_toml
from purifiers.nets.hub.cards import Card, WeightsError

FORMATS: dict[str, Any] = read_toml(Path(__file__).with_name("formats.toml"))
_SHOWN = 4  # keys named in an error
_Convert = Callable[[Tensor], Tensor]


def _as_is(tensor: Tensor) -> Tensor:
    return tensor


class Checkpoint(NamedTuple):
    """A network read from a file.

    Attributes:
        card: classes and arguments of network and denoiser.
        state: of the network, float32, with our names.
    """

    card: Card
    state: Mapping[str, Tensor]


class Origin(NamedTuple):
    """Origin of an entry of our state: names in the checkpoint, and the conversion of their tensors."""

    names: tuple[str, ...]
    convert: Callable[..., Tensor] = _as_is


@dataclass(frozen=True)
class Style:
    """Storage of a kind of layer in a checkpoint: ends of the names of weight and bias, and their conversions."""

    weight: str = ".weight"
    bias: str = ".bias"
    convert: _Convert = _as_is
    convert_bias: _Convert = _as_is


PLAIN = Style()
_POINTWISE = Style(convert=lambda w: w.flatten(1))  # a 1x1 convolution, which is a linear layer


def _projection(layout: str, heads: int, part: int) -> Style:
    """Query (part 0), key (1) or value (2) of a fused projection.

    `layout` is the order of its rows, by `h` (head), `p` (query, key or value) and `c` (channel of the head); ours is
    `[head][channel]`.
    """

    def rows(tensor: Tensor) -> Tensor:
        sizes = {"h": heads, "p": 3, "c": len(tensor) // (3 * heads)}
        split = tensor.reshape(*(sizes[axis] for axis in layout), *tensor.shape[1:])
        return split.select(layout.index("p"), part).flatten(0, 1)

    return Style(convert=lambda w: rows(w.flatten(1)), convert_bias=rows)


def fused_attention(
    ours: str, theirs: str, layers: tuple[str, str, str], layout: str, heads: int
) -> Iterator[tuple[str, tuple[str, Style]]]:
    """Names of the modules of an attention whose checkpoint has one fused projection (see `_projection`).

    Parameters:
        ours, theirs: names of the attention.
        layers: names of its normalisation, output and fused projection below `theirs`.
    """
    norm, output, fused = (f"{theirs}.{layer}" for layer in layers)
    yield f"{ours}.group_norm", (norm, PLAIN)
    yield f"{ours}.to_out.0", (output, _POINTWISE)
    for part, layer in enumerate(("to_q", "to_k", "to_v")):
        yield f"{ours}.{layer}", (fused, _projection(layout, heads, part))


def gather(
    network: nn.Module,
    source: Mapping[str, Tensor],
    modules: Mapping[str, tuple[str, Style]],
    exact: Mapping[str, Origin] | None = None,
    ignored: Callable[[str], bool] = lambda name: False,
) -> dict[str, Tensor]:
    """The state of `network`, from the tensors of a checkpoint.

    Parameters:
        modules: our module -> its name and style in the checkpoint.
        exact: our entry -> origin, for entries outside of `modules`.
        ignored: whether inference does not need an entry of the checkpoint.

    Raises:
        WeightsError: an entry is missing, superfluous or of another shape; the message names it.
    """
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    problems: dict[str, list[str]] = {"it lacks": [], "it has shapes": [], "it has unknown entries": []}
    for name, slot in network.state_dict().items():
        origin = (exact or {}).get(name) or _rule(name, modules)
        used.update(origin.names)
        absent = [n for n in origin.names if n not in source]
        problems["it lacks"] += absent
        if absent:
            continue
        try:
            tensor = origin.convert(*(source[n] for n in origin.names))
        except (RuntimeError, IndexError):  # a shape that the conversion does not admit
            tensor = torch.empty(0)
        if tensor.shape != slot.shape:
            shapes = ", ".join(f"{n} {list(source[n].shape)}" for n in origin.names)
            problems["it has shapes"].append(f"{shapes} instead of {list(slot.shape)}")
            continue
        state[name] = tensor.detach().to(torch.float32, copy=True).contiguous()
    problems["it has unknown entries"] += sorted(n for n in source if n not in used and not ignored(n))
    if any(problems.values()):
        listed = (f"{problem} {some(names)}" for problem, names in problems.items() if names)
        raise WeightsError("it is of another architecture: " + "; ".join(listed))
    return state


def _rule(name: str, modules: Mapping[str, tuple[str, Style]]) -> Origin:
    module, _, leaf = name.rpartition(".")
    theirs, style = modules[module]
    stored, convert = (style.weight, style.convert) if leaf == "weight" else (style.bias, style.convert_bias)
    return Origin((f"{theirs}{stored}",), convert)


def some(names: Collection[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(list(dict.fromkeys(names))[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
