"""A network that gives NaN or overflows in the middle of a cell: the cell fails by name, nothing wrong is counted."""

from __future__ import annotations

import json

import pytest

from bench.engine.meter import CountedNetwork
from bench.store.run import read_run

OK, FAILED = 0, 1
NAN, INF = float("nan"), float("inf")


class Failing:
    """A denoiser that gives a value which is no number for one row of each call, after some calls."""

    def __init__(self, denoiser, calls: int, value: float):
        self._denoiser, self._left, self._value = denoiser, calls, value
        self.t_min, self.t_max, self.levels = denoiser.t_min, denoiser.t_max, denoiser.levels

    def __call__(self, u, t):
        given = self._denoiser(u, t)
        self._left -= 1
        if self._left < 0:
            given[0, 0, 0, 0] = self._value
        return given


@pytest.fixture
def failing(monkeypatch):
    """Make every network fail after some calls: `failing(10, NAN)`; later on it is sound again.

    Without the check before the run, which would meet the failure before anything is counted.
    """
    sound = CountedNetwork.__init__
    monkeypatch.setattr("bench.sweep.session.check_plugins", lambda *arguments: None)

    def after(calls: int, value: float):
        monkeypatch.setattr(CountedNetwork, "__init__", lambda self, d: sound(self, Failing(d, calls, value)))
        return lambda: monkeypatch.setattr(CountedNetwork, "__init__", sound)

    return after


def votes(folder) -> dict[tuple, tuple]:
    run = read_run(folder)
    rows = run.blocks[["cell", "image", "stage", "first", "votes"]].values.tolist()
    return {(run.cells[cell].label, *rest): tuple(counted) for cell, *rest, counted in rows}


@pytest.mark.parametrize(
    ("purifier", "calls", "value"),
    [
        ("onestep-edm", 3, NAN),
        ("onestep-edm", 3, INF),  # clipped to 1 by the purifier: only the network shows it
        ("pf-ode:steps=2", 8, NAN),
        ("consistency:steps=2", 4, INF),
        ("pf-ode-torchdiffeq:solver=dopri5:rtol=0.5:atol=0.5", 60, NAN),  # whose step size goes to 0
        pytest.param("pf-ode-torchdiffeq:solver=bosh3:rtol=0.5:atol=0.5", 60, INF, marks=pytest.mark.slow),
    ],
)
def test_a_network_that_fails_midway_fails_its_cell_and_the_same_command_completes_it(
    cli, tiny_preset, tmp_path, failing, purifier, calls, value
):
    path = tiny_preset(purifiers=["none", purifier], batch=12, block=4, n=16)
    command = ("run", path, "--no-plots", "--out")
    assert cli(*command, tmp_path / "undisturbed").exit_code == OK
    undisturbed, label = (
        votes(tmp_path / "undisturbed"),
        list(read_run(tmp_path / "undisturbed").cells.values())[1].label,
    )

    mend = failing(calls, value)
    result = cli(*command, tmp_path / "out")
    assert result.exit_code == FAILED
    assert f"purifier {label!r} at sigma = 0.5: its network" in " ".join(result.stdout.split())
    assert "gave values that are not finite" in " ".join(result.stdout.split())
    none, failed = json.loads(cli("summary", tmp_path / "out", "--json").stdout)["rows"]
    assert none["images"] == 3 and none["error"] is None and failed["error"]
    before = votes(tmp_path / "out")
    assert {key[0] for key in before} == {"none", label}  # it failed in the middle
    assert before.items() < undisturbed.items()

    mend()
    assert cli(*command, tmp_path / "out").exit_code == OK
    assert votes(tmp_path / "out") == undisturbed
