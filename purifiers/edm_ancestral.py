"""Ancestral sampling on the EDM network, so that it can be compared with the ODE of the same network."""

from dataclasses import dataclass

from purifiers.ddpm import AncestralDDPM


@dataclass(frozen=True)
class AncestralEDM(AncestralDDPM):
    """`ddpm` on the Karras grid of the EDM network, from `t = 2 sigma` to `t_end`; parameters as there.

    The lowest level is the best end with 5 steps on validation images of both data sets.
    """

    name = "edm-ancestral"
    source = "Ho et al. 2020, eq. 6-7, on the network of Karras et al. 2022"
    networks = ("edm",)
