"""Purifiers are called by the shortest names that tell them apart, and are found by any of their names."""

from __future__ import annotations

import pytest
from drawn import PURIFIERS
from summaries import CELL, Row, hits, parsed, summary_of

from bench.records import Cell
from bench.summary.names import display_names, rows_called


def cells_of(labels):
    pairs = [parsed(label) for label in labels]
    return [Cell(purifier=name, parameters=parameters, sigma=0.5, **CELL) for name, parameters in pairs]


def test_names_keep_what_tells_purifiers_apart():
    families = {label.partition("(")[0]: family for label, (family, *_) in PURIFIERS.items()}
    assert list(display_names(cells_of(PURIFIERS), families).values()) == [
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
            ["pf(solver='dopri5', rtol=0.01)", "pf(solver='dopri5', rtol=0.1)"],
            ["pf dopri5 rtol=0.01", "pf dopri5 rtol=0.1"],
        ),
        (["m(levels=[1.0, 2.0], k=1)", "m(levels=[1.0], k=1)"], ["m levels=[1.0, 2.0]", "m levels=[1.0]"]),
        (["m(n=1000000)", "m(n=2)"], ["m n=1000000", "m n=2"]),
        (["m(x=0.1234567)", "m(x=0.12345678)"], ["m(x=0.1234567)", "m(x=0.12345678)"]),
        (["ResNet (N = 100,000)"], ["ResNet (N = 100,000)"]),
        (["a" * 40 + "b", "a" * 40 + "c"], ["a" * 40 + "b", "a" * 40 + "c"]),
        (["m(steps=1)", "m"], ["m(steps=1)", "m"]),
        ([], []),
    ],
)
def test_names_of_unusual_parameters_stay_different(labels, names):
    assert list(display_names(cells_of(labels), {}).values()) == names


ODE = Row("pf-ode(steps=3)", hits(9), family="pf-ode")
TABLE = summary_of(
    *(ODE, Row("pf-ode-torchdiffeq(solver=heun3, steps=2)", hits(9), family="pf-ode")),
    *(Row("sde(steps=2)", hits(9)), Row("sde(steps=4)", hits(9)), Row("log", hits(9), source="imported, radii only")),
).table


@pytest.mark.parametrize(
    ("name", "purifier"),
    [
        *((name, "pf-ode") for name in ("pf-ode 3", "pf-ode", "pf-ode(steps=3)")),
        ("torchdiffeq heun3 2", "pf-ode-torchdiffeq"),
        ("pf-ode-torchdiffeq(solver=heun3, steps=2)", "pf-ode-torchdiffeq"),
        *(("log (imported)", "log"), ("log", "log")),
    ],
)
def test_a_purifier_is_found_by_each_of_its_names(name, purifier):
    assert rows_called(TABLE, name)["purifier"].tolist() == [purifier]


def test_a_name_of_none_or_of_several_purifiers_is_refused_with_the_names_there_are():
    with pytest.raises(ValueError, match=r"no purifier 'dpm' in these runs; there are: pf-ode 3, torchdiffeq heun3 2"):
        rows_called(TABLE, "dpm")
    with pytest.raises(ValueError, match="'sde' could be any of: sde 2, sde 4; give one of them"):
        rows_called(TABLE, "sde")
    with pytest.raises(ValueError, match="make them with `bench run`"):
        rows_called(summary_of(ODE).table.iloc[:0], "pf-ode")


def test_a_row_with_a_classifier_of_its_own_says_it():
    voter = {"classifier_parameters": {"path": "mnist5k/noisy-classifier", "precision": "bf16"}, "own_classifier": True}
    other = {"classifier_parameters": {"path": "deep/down/robust.safetensors"}, "own_classifier": True}
    cells = [
        Cell(purifier="none", parameters={}, sigma=0.5, **CELL),
        Cell(purifier="none", parameters={}, sigma=0.5, **{**CELL, **voter}),
        Cell(purifier="none", parameters={}, sigma=0.5, **{**CELL, **other}),
        Cell(purifier="pf-ode", parameters={"steps": 3}, sigma=0.5, **{**CELL, **voter}),
        Cell(purifier="pf-ode-torchdiffeq", parameters={"a_long": "parameter"}, sigma=0.5, **{**CELL, **voter}),
    ]
    shown = display_names(cells, {})
    assert list(shown)[1] == "none(classifier=cnn(path=mnist5k/noisy-classifier, precision=bf16))"
    assert list(shown.values()) == [
        "none",
        "none [noisy-classifier]",
        "none [robust]",
        "pf-ode 3 [noisy-classifier]",
        "pf-ode-torchdi… [noisy-classifier]",
    ]
    twins = [{"classifier_parameters": {"path": f"{zoo}/noisy"}, "own_classifier": True} for zoo in ("a", "b")]
    cells = [Cell(purifier="none", parameters={}, sigma=0.5, **{**CELL, **twin}) for twin in twins]
    assert list(display_names(cells, {}).values()) == [cell.label for cell in cells]  # the short names would be equal
