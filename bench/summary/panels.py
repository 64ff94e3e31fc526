"""Example images under the display names of a summary. Pure."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from bench.store import Examples, Panel
from bench.summary.names import labels
from bench.summary.palette import FAMILIES, family_of
from bench.summary.summary import Summary


class NamedPanel(NamedTuple):
    """A panel with the display name and the family of its purifier; `untouched`: it left the noisy images as they are.

    A purifier that the summary does not have keeps its label as its name, and has the family `other`.
    """

    panel: Panel
    name: str
    family: str
    untouched: bool


def named_panels(summary: Summary, examples: Examples, sigma: float) -> list[NamedPanel]:
    """The panels at one sigma, in the order of the palette."""
    table = summary.table
    known = dict(zip(labels(table), zip(table["name"], table["family"], strict=True), strict=True))
    panels = []
    for panel in examples.panels:
        if panel.sigma == sigma:
            name, family = known.get(panel.cell, (panel.cell, "other"))
            untouched = np.array_equal(panel.purified, panel.noisy)
            panels.append(NamedPanel(panel, name, family_of(family), untouched))
    order = list(FAMILIES)
    return sorted(panels, key=lambda named: order.index(named.family))
