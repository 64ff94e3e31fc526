"""Labels of cells become the shortest names that tell them apart."""

from __future__ import annotations

import pandas as pd
import pytest
from drawn import (
    PURIFIERS,
)

from bench.summary.names import short_names


def test_short_names_keep_what_tells_cells_apart():
    table = pd.DataFrame({"label": list(PURIFIERS), "family": [family for family, *_ in PURIFIERS.values()]})
    assert list(short_names(table).values()) == [
        "none",
        "onestep-ddpm",
        "onestep-edm",
        "onestep-edm-ft",
        "consistency",
        "consistency 2",
        "consistency-ft",
        "ddpm 4",
        "sde 6",
        "edm-stochastic 3",
        "pf-ode 3",
        "torchdiffeq midpoint 2",
    ]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["sde(steps=6, churn=2.0)", "sde(steps=6, churn=0.5)"], ["sde 6 churn=2", "sde 6 churn=0.5"]),
        (
            ["pf(solver=dopri5, rtol=0.01)", "pf(solver=dopri5, rtol=0.1)"],
            ["pf dopri5 rtol=0.01", "pf dopri5 rtol=0.1"],
        ),
        (["m(levels=[1.0, 2.0], k=1)", "m(levels=[1.0], k=1)"], ["m levels=[1.0, 2.0]", "m levels=[1.0]"]),
        (["ResNet (N = 100,000)"], ["ResNet (N = 100,000)"]),
        (["a" * 40 + "b", "a" * 40 + "c"], ["a" * 40 + "b", "a" * 40 + "c"]),
        (["m(steps=1)", "m"], ["m(steps=1)", "m"]),
        ([], []),
    ],
)
def test_short_names_of_unusual_labels_stay_different(labels, names):
    assert list(short_names(pd.DataFrame({"label": labels})).values()) == names
