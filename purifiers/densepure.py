"""DensePure: several reversals of one noisy image, and a majority vote of the classifier."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from purifiers.base import at_least
from purifiers.ddpm import AncestralDDPM

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class DensePure(AncestralDDPM):
    """`votes` independent runs of `ddpm`; the class of the image is the one of most of them.

    The vote is a part of the smoothed function, so the certificate holds for it. Evaluations of the network and rows of
    the classifier count `votes` times.

    Parameters:
        steps, t_end: of each run, as `ddpm`.
        votes: runs of each noisy image, K in the paper.
    """

    name = "densepure"
    source = "Chen et al. 2022, section 4.1"

    steps: int = 2
    votes: int = 3

    def __post_init__(self):
        super().__post_init__()
        at_least(1, votes=self.votes)

    def nfe(self):
        return self.votes * self.steps

    def restore(self, u, t, networks, rng) -> "Tensor":
        """As `Purifier.restore`, with `votes` results: `[K,B,C,H,W]`."""
        import torch

        run = super().restore
        return torch.stack([run(u, t, networks, rng) for _ in range(self.votes)])
