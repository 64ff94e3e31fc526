"""Consistency models: from a noisy image to a clean one in one evaluation, or in a few."""

from dataclasses import dataclass, field

from purifiers.base import OPTION, at_least, positive
from purifiers.conditioning import Conditioned


@dataclass(frozen=True)
class Consistency(Conditioned):
    """`f(u, 2 sigma)`; every further step adds noise of a lower level and removes it.

    Parameters:
        steps: evaluations, at all levels of the network's own grid except the last (`f` is the identity there).
        t_end: the level of the last evaluation, instead of that grid's.
    """

    name = "consistency"
    family = "consistency"
    source = "Song et al. 2023, Algorithm 1; Li et al. 2024"
    networks = ("cm",)

    steps: int = 1
    t_end: float | None = field(default=None, kw_only=True, metadata=OPTION)

    def __post_init__(self):
        at_least(1, steps=self.steps)
        positive(t_end=self.t_end)

    def nfe(self):
        return self.steps

    def restore(self, u, t, networks, rng):
        f = networks[self.networks[0]]
        if self.t_end is None:
            t, *lower = f.levels(self.level(t), self.steps + 1)[: self.steps]
        else:
            t, *lower = f.levels(self.level(t), self.steps, self.t_end)
        u0 = f(u, t)
        for t in lower:
            noise = (t**2 - f.t_min**2) ** 0.5 * rng.normal(u0)
            u0 = f(u0 + noise, t)
        return u0
