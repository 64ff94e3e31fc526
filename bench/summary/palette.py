"""Colours, markers and dashes of purifier families, shared by pictures and report."""

from __future__ import annotations

from typing import NamedTuple


class _Family(NamedTuple):
    """How a family of purifiers looks: the colour of its marks, a darker one for words, and its entry in a legend."""

    colour: str
    ink: str
    words: str


PLAIN = "none"  # plain randomized smoothing
OWN_CLASSIFIER = "own-classifier"  # the same, with a classifier that the row names itself, such as one trained on noise

# Okabe and Ito (2008), which colour-blind readers can tell apart; inks are the same hues at a contrast of 4.5 on white.
FAMILIES = {
    PLAIN: _Family("#8C8C8C", "#5E5E5E", "none (plain randomized smoothing)"),
    OWN_CLASSIFIER: _Family("#56B4E9", "#24749F", "none, with its own classifier"),
    "one-step": _Family("#0072B2", "#00639B", "one-step"),
    "consistency": _Family("#D55E00", "#B04D00", "consistency"),
    "pf-ode": _Family("#009E73", "#00775A", "pf-ode"),
    "sde": _Family("#C66FA0", "#A04A7C", "sde"),
    "other": _Family("#E69F00", "#8A6000", "other"),
    "imported": _Family("#3A3A3A", "#3A3A3A", "imported, radii only"),
}


def family_of(name: str) -> str:
    """The family of the palette for a plugin's family."""
    return name if name in FAMILIES else "other"


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p")
DASHES = ("-", (0, (5, 1.6)), (0, (1.2, 1.4)), (0, (6, 1.5, 1.2, 1.5)), (0, (9, 2)), (0, (3, 1.2, 1.2, 1.2, 1.2, 1.2)))
