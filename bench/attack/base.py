"""The interface of an attack: a plugin that lowers the probability of a class within an L2 ball."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from bench.errors import PurifyBenchError
from bench.plugins.registry import Kind

if TYPE_CHECKING:
    from torch import Tensor

Loss = Callable[["Tensor", "Tensor"], "Tensor"]  # logits [B,K], classes [B] -> [B], which the attack lowers


class AttackError(PurifyBenchError):
    """A run cannot be attacked; the message gives the reason and the remedy."""


class Target(Protocol):
    """The smoothed classifier at some images, as an attack sees it.

    Attributes:
        clean: the images, `[B,C,H,W]` in [0,1].
        classes: the class that each certificate claims, `[B]` int64.
    """

    clean: Tensor
    classes: Tensor

    def gradient(self, x: Tensor, loss: Loss, draws: int) -> Tensor:
        """The gradient at `x [B,C,H,W]` of the mean loss over `draws` fresh draws of noise per image."""
        ...


@dataclass(frozen=True)
class Attack:
    """A method that searches for adversarial images. A subclass is a frozen dataclass; its fields are its parameters.

    An attack needs no guarantee: its images are judged by fresh draws, and projected onto the ball before.
    """

    name: ClassVar[str]
    source: ClassVar[str] = ""

    def perturb(self, target: Target, start: Tensor, radii: Tensor, attempt: int) -> Tensor:
        """Images `[B,C,H,W]` at which the smoothed classifier gives `target.classes` a low probability.

        Parameters:
            start: where to begin, within the balls.
            radii: of the L2 balls around `target.clean`, `[B]`.
            attempt: number of the restart, or of the step of the search; attempts may differ in their loss.
        """
        raise NotImplementedError


ATTACK = Kind("attack", "bench.attack", Attack)


def unit(x: Tensor) -> Tensor:
    """Each row of `x [B,...]` scaled to L2 norm 1; rows of zeros stay."""
    norms = x.flatten(1).norm(dim=1).view(-1, *(1,) * (x.ndim - 1))
    return x / norms.clamp(min=1e-12)


def onto_ball(x: Tensor, centre: Tensor, radii: Tensor) -> Tensor:
    """The nearest images to `x [B,...]` in L2 balls: radii `[B]` around `centre`."""
    away = x - centre
    norms = away.flatten(1).norm(dim=1)
    factors = (radii / norms.clamp(min=1e-12)).clamp(max=1)
    return centre + away * factors.view(-1, *(1,) * (x.ndim - 1))
