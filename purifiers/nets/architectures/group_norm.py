"""Group normalisation for compiled networks on a CPU, in channels-last layout."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class _ChannelsLastGroupNorm(nn.GroupNorm):
    """`nn.GroupNorm`, written so that torch.compile vectorises it in channels-last layout.

    On a CPU, torch's own kernel for that layout is slow for narrow groups, and a compiled reduction over a part of the
    innermost dimension cannot be vectorised. Here the loops run over all channels: one computes their first two
    moments, a small matrix product sums them over each group, and the other loop scales and shifts. In eager mode it is
    slower than `nn.GroupNorm`.
    """

    members: Tensor  # 1 for two channels of one group, else 0, [C,C]

    def __init__(self, norm: nn.GroupNorm):
        super().__init__(norm.num_groups, norm.num_channels, norm.eps)
        self.weight, self.bias = norm.weight, norm.bias
        width = norm.num_channels // norm.num_groups
        blocks = torch.block_diag(*[torch.ones(width, width, device=norm.weight.device)] * norm.num_groups)
        self.register_buffer("members", blocks, persistent=False)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        """`x [B,C,...]`, normalised over each group of channels and all positions."""
        rows, space = len(x), list(range(2, x.ndim))
        wide = x.float()
        moments = torch.cat([wide.mean(space), wide.square().mean(space)])
        mean, square = (moments @ self.members.float() * (self.num_groups / self.num_channels)).split(rows)
        variance = (square - mean.square()).clamp(min=0)
        # The inverse root as an exponential: Inductor repeats cheap operations at every position, and keeps this one.
        scale = self.weight.float() * torch.exp(-0.5 * torch.log(variance + self.eps))
        shift = self.bias.float() - scale * mean
        shape = [rows, -1, *(1 for _ in space)]
        return (wide * scale.view(shape) + shift.view(shape)).to(x.dtype)


def with_channels_last_norms(network: nn.Module) -> nn.Module:
    """Replace the group normalisations of a network, in place; parameters keep their names."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.GroupNorm and child.affine:
                setattr(parent, name, _ChannelsLastGroupNorm(child))
    return network
