"""No purification: plain randomized smoothing, the baseline of every comparison."""

from dataclasses import dataclass

from purifiers.base import Purifier


@dataclass(frozen=True)
class NoPurifier(Purifier):
    """The noisy image itself, not clipped, as in the certificate of Cohen et al. (2019)."""

    name = "none"
    family = "none"
    source = "Cohen, Rosenfeld, Kolter 2019"
    bounded = False

    def purify(self, x, sigma, networks, rng):
        return x
