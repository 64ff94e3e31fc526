"""Every purifier that is found keeps the contract, and costs what it says."""

import pytest
import torch

from bench.plugins.registry import PURIFIER, create, discover
from bench.testing import _SIGMA, PURIFIER_CHECKS, GaussianDenoiser, _run, examine_purifier, keeps_the_contract
from purifiers.base import Purifier
from purifiers.pf_ode_torchdiffeq import _ADAPTIVE, _FIXED, _MULTISTEP

FOUND = discover(PURIFIER)
VARIANTS = [(name, {}) for name in FOUND] + [
    ("consistency", {"steps": 3}),
    ("consistency-ft", {"steps": 2}),
    ("ddpm", {"steps": 1}),
    ("sde", {"steps": 1}),
    ("edm-stochastic", {"steps": 1, "churn": 0.0}),
    ("pf-ode", {"steps": 1}),
    ("ddim", {"steps": 1}),
    ("dpm-solver", {"steps": 4, "order": 3}),
    ("unipc", {"steps": 1}),
    ("edm-stochastic", {"steps": 2, "t_end": 0.2}),
    ("densepure", {"votes": 1}),
    *[("pf-ode-torchdiffeq", {"solver": solver, "steps": 4}) for solver in _FIXED],
]
ROW_BY_ROW = [solver for solver in (*_MULTISTEP, *_ADAPTIVE) if solver != "bosh3"]  # bosh3 is the default, above


@pytest.mark.parametrize("check", PURIFIER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "parameters"), VARIANTS, ids=lambda v: v if isinstance(v, str) else str(v or ""))
def test_a_purifier_conforms(name, parameters, check):
    check(create(PURIFIER, name, parameters))


@pytest.mark.parametrize("rows", [40, pytest.param(500, marks=pytest.mark.slow)])
@pytest.mark.parametrize("solver", ROW_BY_ROW)
def test_a_solver_that_solves_each_row_on_its_own_conforms(solver, rows):
    """Rows are solved one after the other, which takes long, by code that the default has shown to conform."""
    purifier = create(PURIFIER, "pf-ode-torchdiffeq", {"solver": solver, "steps": 4})
    assert not examine_purifier(purifier, rows)
    for check in PURIFIER_CHECKS:
        if check is not keeps_the_contract:
            check(purifier)


def test_all_families_of_the_benchmark_are_found():
    assert set(FOUND) >= {
        "none",
        "onestep-ddpm",
        "onestep-edm",
        "onestep-edm-ft",
        "ddpm",
        "sde",
        "edm-stochastic",
        "pf-ode",
        "pf-ode-torchdiffeq",
        "consistency",
        "consistency-ft",
        "ddim",
        "dpm-solver",
        "unipc",
        "edm-ancestral",
        "densepure",
        "onestep-edm-cal",
    }


@pytest.mark.parametrize(
    ("name", "parameters", "nfe"),
    [
        ("none", {}, 0),
        ("onestep-ddpm", {}, 1),
        ("onestep-edm", {}, 1),
        ("onestep-edm-ft", {}, 1),
        ("consistency", {}, 1),
        ("consistency", {"steps": 3}, 3),
        ("consistency-ft", {}, 1),
        ("ddpm", {"steps": 5}, 5),
        ("sde", {"steps": 7}, 7),
        ("edm-stochastic", {"steps": 4}, 7),
        ("pf-ode", {"steps": 9}, 17),
        ("pf-ode", {"steps": 18}, 35),  # the count that EDM publishes
        ("ddim", {"steps": 5}, 5),
        ("dpm-solver", {"steps": 5, "order": 3}, 5),
        ("unipc", {"steps": 5}, 5),  # the corrector costs nothing
        ("edm-ancestral", {"steps": 6}, 6),
        ("densepure", {"steps": 2, "votes": 5}, 10),
        ("pf-ode-torchdiffeq", {"solver": "rk4", "steps": 3}, 13),
    ],
)
def test_the_measured_evaluations_are_those_of_the_papers(name, parameters, nfe):
    x, _, networks = _run(create(PURIFIER, name, parameters))
    assert sum(network.rows for network in networks.values()) == nfe * len(x)


def test_an_adaptive_solver_spends_more_on_tighter_tolerances():
    costs = []
    for tolerance in (1e-1, 1e-3, 1e-5):
        parameters = {"solver": "dopri5", "rtol": tolerance, "atol": tolerance}
        _, _, networks = _run(create(PURIFIER, "pf-ode-torchdiffeq", parameters))
        costs.append(networks["edm"].rows)
    assert costs == sorted(costs) and costs[0] < costs[-1]


def test_a_batch_whose_rows_share_a_step_size_is_caught():
    """The check that guards the certificate fails where it must: one adaptive solve for the whole batch."""

    class Coupled(Purifier):
        networks = ("edm",)

        def restore(self, u, t, networks, rng):
            scale = u.abs().amax()  # like a step size chosen by the worst row
            return networks["edm"](u, t) / scale

    with pytest.raises(AssertionError, match="depends on the rows"):
        keeps_the_contract(Coupled())


@pytest.mark.parametrize("name", ["ddpm", "edm-stochastic", "pf-ode", "pf-ode-torchdiffeq", "sde", "consistency"])
def test_every_method_takes_a_level_below_the_networks_lowest(name):
    purifier = create(PURIFIER, name, {})
    rows = torch.arange(2)
    x = torch.rand(2, 1, 4, 4)
    from bench.engine.noise import RowRng

    networks = {role: GaussianDenoiser() for role in purifier.networks}
    y = purifier.purify(x, 0.0005, networks, RowRng(0, "purifier", rows, rows))
    assert bool(y.isfinite().all())


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("pf-ode", {"steps": 0}),
        ("sde", {"steps": -1}),
        ("edm-stochastic", {"churn": -1}),
        ("dpm-solver", {"order": 4}),
        *[(name, {"t_end": -0.1}) for name in ("pf-ode", "edm-stochastic", "ddpm", "edm-ancestral", "consistency")],
        ("unipc", {"t_end": 0}),
        ("densepure", {"votes": 0}),
    ],
)
def test_parameters_out_of_range_are_refused_by_name(name, bad):
    from bench.plugins.registry import PluginError

    with pytest.raises(PluginError, match=next(iter(bad))):
        create(PURIFIER, name, bad)


def test_the_two_units_meet_in_one_place():
    """`t = 2 sigma` and `u = 2x - 1`: a Gaussian denoiser's answer is known in both."""
    purifier = create(PURIFIER, "onestep-edm", {})
    x, y, _ = _run(purifier)
    shrink = 0.25 / (0.25 + (2 * _SIGMA) ** 2)
    assert torch.allclose(y, (((2 * x - 1) * shrink + 1) / 2).clamp(0, 1), atol=1e-6)
