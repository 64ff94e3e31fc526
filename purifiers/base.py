"""The two contracts of this package: what a network offers, and what a purifier does with it.

Nothing here imports torch at run time: a purifier file is arithmetic on tensors that it is given, so the harness
can list and refuse purifiers within a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:
    from torch import Tensor


class Denoiser(Protocol):
    """A network as a function of a noisy image and its noise level.

    Call it with `u [B,C,H,W]`, images in [-1,1] plus Gaussian noise of level `t` (a float or `[B]`, in the same
    units), and it returns an estimate of the clean images, `[B,C,H,W]`. A posterior mean `E[u0 | u]` and a
    consistency function `f(u, t)` are both of this form.

    Raises:
        ValueError: `t` lies above `t_max`, the highest level that the network was trained for.
    """

    t_min: float
    t_max: float

    def __call__(self, u: Tensor, t: float | Tensor) -> Tensor: ...

    def levels(self, t: float, steps: int, t_end: float | None = None) -> list[float]:
        """`steps` levels on the network's own time grid, decreasing from `t`, above 0.

        `t_end` is where an EDM grid ends instead of at `t_min`; a discrete chain, which spaces its timesteps
        evenly down to 0, has no use for it. Fewer levels come back where `t` is already below the end.
        """
        ...


class Rng(Protocol):
    """The purifier's own stream of randomness: fixed for each row by (seed, image, draw), whatever the batch."""

    def normal(self, like: Tensor) -> Tensor:
        """Fresh standard normal noise, of the shape, dtype and device of `like`."""
        ...


# Metadata of a parameter that is left out of a cell's identity while it has its default, so that cells stay what they
# were before there was such a parameter: `field(default=..., kw_only=True, metadata=OPTION)`.
OPTION = {"option": True}


@dataclass(frozen=True)
class Purifier:
    """Takes the noise out of images that randomized smoothing has made noisy.

    A subclass is a frozen dataclass whose fields are its parameters. It says its `name`, its `family` (methods of
    one family share a colour), the `source` it follows and the roles of the `networks` that it calls, and it
    defines `restore`. It holds no network: it is handed counted ones, so its NFE cannot be misreported.

    `restore` works in the networks' units, where an image lies in [-1,1] and the noise level is `t = 2 sigma`;
    `purify` is the only place where the two units meet. A method without networks may define `purify` instead.
    """

    name: ClassVar[str]
    family: ClassVar[str] = "other"
    source: ClassVar[str] = ""
    networks: ClassVar[tuple[str, ...]] = ()

    @property
    def bounded(self) -> bool:
        """Whether purified images lie in [0,1], where `purify` clips them; only plain smoothing declares otherwise."""
        return True

    def nfe(self) -> int | None:
        """Network evaluations per image, as documented; None where the method measures them as it goes."""
        return len(self.networks)

    def restore(self, u: Tensor, t: float, networks: Mapping[str, Denoiser], rng: Rng) -> Tensor:
        """Estimate the clean image: `u [B,C,H,W]` in [-1,1] plus noise of level `t` -> `u0 [B,C,H,W]`."""
        raise NotImplementedError

    def purify(self, x: Tensor, sigma: float, networks: Mapping[str, Denoiser], rng: Rng) -> Tensor:
        """Purify images `x [B,C,H,W]`, in [0,1] plus noise of standard deviation `sigma`; returns the same shape.

        Rows must be independent of one another: the certificate of randomized smoothing rests on it.
        """
        x0 = (self.restore(2 * x - 1, 2 * sigma, networks, rng) + 1) / 2
        return x0.clamp(0, 1) if self.bounded else x0


def at_least(minimum: int, **parameters: int) -> None:
    """Refuse parameters below `minimum`; raises ValueError that names the parameter."""
    for name, value in parameters.items():
        if value < minimum:
            raise ValueError(f"{name} must be at least {minimum}, got {value}")


def positive(**parameters: float) -> None:
    """Refuse parameters that are not above 0; raises ValueError that names the parameter."""
    for name, value in parameters.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")
