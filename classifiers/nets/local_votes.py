"""Local smoothing: the mean confidence of a classifier over noisy copies (DiffSmooth, Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_SEED = 42  # of the local noise, from the code of DiffSmooth


def mean_confidence(logits: Callable[[Tensor], Tensor], x: Tensor, votes: int, noise: float) -> Tensor:
    """`mean_k softmax(logits(x + noise n_k))`, `[B,K]`, of images `x [B,C,H,W]`.

    A copy has the same noise `n_k [C,H,W]` for all images, so rows are independent.
    """
    generator = torch.Generator().manual_seed(_SEED)  # on the CPU: the same on every device
    copies = torch.randn(votes, *x.shape[1:], generator=generator).to(x) * noise
    return torch.stack([logits(x + copy).softmax(1) for copy in copies]).mean(0)


class LocalVotes(nn.Module):
    """A classifier's mean confidence over `votes` copies with noise of standard deviation `noise`.

    Attributes:
        network: the classifier, logits of images in [0,1]. Every copy counts as one of its rows.
    """

    def __init__(self, network: Callable[[Tensor], Tensor], votes: int, noise: float):
        super().__init__()
        self.network = network if isinstance(network, nn.Module) else _Function(network)
        self.votes, self.noise = votes, noise

    def forward(self, x: Tensor) -> Tensor:
        return mean_confidence(self.network, x, self.votes, self.noise)


class _Function(nn.Module):
    """A function as a module, so that the harness counts its rows."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)
