"""Projected gradient descent in an L2 ball, on the expectation over the noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.attack.base import Attack, Target, onto_ball, unit

if TYPE_CHECKING:
    from torch import Tensor

_FIRST, _LAST = 0.5, 0.03  # sizes of the first and of the last step, in radii


@dataclass(frozen=True)
class PGD(Attack):
    """Steps along the gradient, scaled to a length and projected onto the ball.

    The step size falls as a half cosine. Even attempts lower the margin of the class over the next one, which keeps a
    gradient where the class has probability 1; odd attempts raise the cross-entropy (Salman et al. 2019, eq. 5 with
    the mean outside of the logarithm).

    Parameters:
        steps: of one attempt.
        draws: of noise for each gradient.
    """

    name = "pgd"
    source = "Madry et al. 2018; expectation over noise: Athalye et al. 2018, Salman et al. 2019"

    steps: int = 12
    draws: int = 8

    def __post_init__(self) -> None:
        if self.steps < 1 or self.draws < 1:
            raise ValueError("steps and draws must be at least 1")

    def perturb(self, target: Target, start: Tensor, radii: Tensor, attempt: int) -> Tensor:
        loss = (_margin, _log_probability)[attempt % 2]
        x = start
        lengths = radii.to(start.dtype).view(-1, 1, 1, 1)
        for step in range(self.steps):
            direction = unit(target.gradient(x, loss, self.draws))
            done = step / max(1, self.steps - 1)
            rate = _LAST + (_FIRST - _LAST) * (1 + math.cos(math.pi * done)) / 2
            x = onto_ball(x - rate * lengths * direction, target.clean, radii.to(start.dtype))
        return x


def _margin(logits: Tensor, classes: Tensor) -> Tensor:
    """The logit of the class minus the largest other one (Carlini and Wagner 2017)."""
    own = logits.gather(1, classes[:, None])
    others = logits.scatter(1, classes[:, None], -math.inf)
    return own[:, 0] - others.amax(1)


def _log_probability(logits: Tensor, classes: Tensor) -> Tensor:
    return logits.log_softmax(1).gather(1, classes[:, None])[:, 0]
