"""Consistency Purification: a consistency model fine-tuned with a perceptual loss."""

from dataclasses import dataclass

from purifiers.consistency import Consistency


@dataclass(frozen=True)
class ConsistencyFineTuned(Consistency):
    """`f(u, 2 sigma)` after `min E LPIPS(f(x + t z, t), x)` over the levels of smoothing."""

    name = "consistency-ft"
    family = "consistency"
    source = "Li et al. 2024, Consistency Purification, eq. 8"
    networks = ("cm-ft",)
