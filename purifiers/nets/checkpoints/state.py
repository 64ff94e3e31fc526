"""From the tensors of a checkpoint to the state of our module: each one named, shaped and used, or the file refused."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from purifiers.nets.hub.cards import Card, WeightsError

SHOWN = 4  # keys named in an error
Convert = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A network that has been read: how it is built, and what it holds.

    Attributes:
        card: the network's class and arguments, and how it becomes a denoiser.
        state: of `card.network`, float32, in our names.
    """

    card: Card
    state: Mapping[str, Tensor]


class Origin(NamedTuple):
    """Where an entry of our state comes from: names in the checkpoint, and what makes ours of their tensors."""

    names: tuple[str, ...]
    convert: Callable[..., Tensor]


@dataclass(frozen=True)
class Style:
    """How a kind of layer is stored: the names of its weight and bias, and what makes ours of each."""

    weight: str = "weight"
    bias: str = "bias"
    convert: Convert = lambda tensor: tensor
    convert_bias: Convert = lambda tensor: tensor


PLAIN = Style()
POINTWISE = Style(convert=lambda w: w.flatten(1))  # a convolution over one pixel, which is a linear layer


def projection(layout: str, heads: int, part: int) -> Style:
    """Query (part 0), key (1) or value (2) of a fused projection, whose rows are laid out as `layout` says.

    Ours are `[head][channel]`; `layout` orders `h` (head), `p` (query, key or value) and `c` (channel of the head).
    """

    def rows(tensor: Tensor) -> Tensor:
        sizes = {"h": heads, "p": 3, "c": len(tensor) // (3 * heads)}
        split = tensor.reshape(*(sizes[axis] for axis in layout), *tensor.shape[1:])
        return split.select(layout.index("p"), part).flatten(0, 1)

    return Style(convert=lambda w: rows(w.flatten(1)), convert_bias=rows)


def gather(
    network: nn.Module,
    source: Mapping[str, Tensor],
    modules: Mapping[str, tuple[str, Style]],
    exact: Mapping[str, Origin] | None = None,
    ignored: Callable[[str], bool] = lambda name: False,
    separator: str = ".",
) -> dict[str, Tensor]:
    """The state of `network`, each entry from the tensors that it answers to.

    Parameters:
        modules: our module -> theirs, and how it is stored.
        exact: our entry -> origin, for what that rule does not cover.
        ignored: entries of the checkpoint that inference has no use for.

    Raises:
        WeightsError: an entry is missing, has another shape, or is one too many; the message names it.
    """
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    missing: list[str] = []
    misshapen: list[str] = []
    for name, slot in network.state_dict().items():
        origin = (exact or {}).get(name) or rule(name, modules, separator)
        used.update(origin.names)
        absent = [n for n in origin.names if n not in source]
        missing += absent
        if absent:
            continue
        try:
            tensor = origin.convert(*(source[n] for n in origin.names))
        except (RuntimeError, IndexError):  # of a shape that cannot even be rearranged
            tensor = torch.empty(0)
        if tensor.shape != slot.shape:
            found = ", ".join(f"{n} {list(source[n].shape)}" for n in origin.names)
            misshapen.append(f"{found} where {list(slot.shape)} is asked for")
            continue
        state[name] = tensor.detach().to(torch.float32, copy=True).contiguous()
    extra = sorted(name for name in source if name not in used and not ignored(name))
    problems = [
        f"{what} {some(names)}"
        for what, names in (("it lacks", missing), ("it has shapes", misshapen), ("it has no use for", extra))
        if names
    ]
    if problems:
        raise WeightsError("it is of another architecture: " + "; ".join(problems))
    return state


def rule(name: str, modules: Mapping[str, tuple[str, Style]], separator: str) -> Origin:
    module, _, leaf = name.rpartition(".")
    theirs, style = modules[module]
    stored, convert = (style.weight, style.convert) if leaf == "weight" else (style.bias, style.convert_bias)
    return Origin((f"{theirs}{separator}{stored}",), convert)


def some(names: Collection[str]) -> str:
    """The first few of many names."""
    shown = ", ".join(list(dict.fromkeys(names))[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
