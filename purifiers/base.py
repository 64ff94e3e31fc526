"""The interfaces of this package: `Denoiser`, a network, and `Purifier`, a method that calls networks.

Nothing here imports torch at run time: a purifier file is arithmetic on its input tensors, so the harness can list and
refuse purifiers within a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Denoiser(Protocol):
    """A network as a function of a noisy image and its noise level.

    A call maps `u [B,C,H,W]`, images in [-1,1] plus Gaussian noise of level `t` (a float or `[B]`, in the same units),
    to an estimate of the clean images, `[B,C,H,W]`. The posterior mean `E[u0 | u]` and a consistency function `f(u, t)`
    are both of this form.

    Raises:
        ValueError: `t` is above `t_max`, the highest level in the training of the network.
    """

    t_min: float
    t_max: float

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor: ...

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        """`steps` levels on the network's own time grid, decreasing from `t`, above 0.

        `t_end` is the last of them: `t_min` by default, or the last timestep above 0 of a discrete chain. If `t` is
        already below the end, fewer levels are returned.
        """
        ...


class Rng(Protocol):
    """The random numbers of a purifier: fixed for each row by (seed, image, draw), independent of the batch."""

    def normal(self, like: Tensor) -> Tensor:
        """Fresh standard normal noise, of the shape, dtype and device of `like`."""
        ...


# Metadata of an optional parameter: `field(default=..., kw_only=True, metadata=OPTION)`. A cell's identity omits it at
# its default, so that adding the parameter leaves the identity of existing cells unchanged.
OPTION = {"option": True}


@dataclass(frozen=True)
class Purifier:
    """A method that removes the noise of randomized smoothing from images.

    A subclass is a frozen dataclass whose fields are its parameters. It sets its `name`, its `family` (methods of one
    family share a colour), its `source` (the paper) and the roles of the `networks` that it calls, and it defines
    `restore`. It holds no network: the harness passes counted networks, so the NFE is measured, not claimed.

    `restore` works in the networks' units: an image lies in [-1,1] and the noise level is `t = 2 sigma`. Only `purify`
    converts between these and the images' units. A method without networks may define `purify` instead.
    """

    name: ClassVar[str]
    family: ClassVar[str] = "other"
    source: ClassVar[str] = ""
    networks: ClassVar[tuple[str, ...]] = ()

    @property
    def bounded(self) -> bool:
        """Whether `purify` clips purified images to [0,1]; only plain smoothing does not."""
        return True

    def nfe(self) -> int | None:
        """Network evaluations per image, as documented; None if they are not known beforehand."""
        return len(self.networks)

    def restore(self, u: Tensor, t: float, networks: Mapping[str, Denoiser], rng: Rng) -> Tensor:
        """Estimate the clean image: `u [B,C,H,W]` in [-1,1] plus noise of level `t` -> `u0 [B,C,H,W]`.

        `[K,B,C,H,W]` are K estimates of each image, of which the classifier takes a majority vote (ties: the lowest
        class). The vote is a part of the function that is certified.
        """
        raise NotImplementedError

    def purify(self, x: Tensor, sigma: float, networks: Mapping[str, Denoiser], rng: Rng) -> Tensor:
        """Purify images `x [B,C,H,W]`, in [0,1] plus noise of standard deviation `sigma`; returns the shape of `x`.

        Rows must be independent of one another; otherwise the certificate of randomized smoothing is unsound.
        """
        x0 = (self.restore(2 * x - 1, 2 * sigma, networks, rng) + 1) / 2
        return x0.clamp(0, 1) if self.bounded else x0


@dataclass(frozen=True)
class Sampler(Purifier):
    """Base class of samplers that call the network once a step.

    Parameters:
        steps: evaluations, on the network's own grid of levels.
        t_end: the level of the last evaluation, which is the result; None: the lowest of the grid. It hardly matters
            between 0.05 and 0.45 (validation images of both data sets).
    """

    steps: int = 5
    t_end: float | None = 0.1

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        positive(t_end=self.t_end)

    def nfe(self) -> int | None:
        return self.steps


def at_least(minimum: int, **parameters: int) -> None:
    """Refuse parameters below `minimum`; raises ValueError that names the parameter."""
    for name, value in parameters.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")


def positive(**parameters: float | None) -> None:
    """Refuse parameters that are not above 0 (None is not checked); raises ValueError that names the parameter."""
    for name, value in parameters.items():
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
