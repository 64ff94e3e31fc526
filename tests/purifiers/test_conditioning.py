"""Options that reproduce published codes: each changes what it should and nothing else, and all are off by default."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from bench.engine.meter import CountedNetwork
from bench.engine.noise import RowRng
from bench.plugins.registry import PURIFIER, PluginError, create, parameters
from bench.testing import PURIFIER_CHECKS, GaussianDenoiser, _run
from purifiers import conditioning
from purifiers.nets.denoisers import VPDenoiser, _cosine_alphas_cumprod, karras_levels

SIGMAS = (0.25, 0.5, 1.0)


class Listener(GaussianDenoiser):
    """A denoiser that remembers the levels it was told and what it was given."""

    def __init__(self, gain: float = 1.0):
        self.gain, self.levels_told, self.inputs = gain, [], []

    def __call__(self, u, t):
        self.levels_told.append(float(t))
        self.inputs.append(u.clone())
        return self.gain * super().__call__(u, t)


def noisy(rows: int = 4) -> torch.Tensor:
    return torch.rand(rows, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.25


def purify(name: str, options: dict, sigma: float, denoiser: Listener) -> torch.Tensor:
    purifier = create(PURIFIER, name, options)
    x, index = noisy(), torch.arange(4)
    networks = {role: CountedNetwork(denoiser) for role in purifier.networks}
    return purifier.purify(x, sigma, networks, RowRng(0, "purifier", index, index))


# -- the grid of 18 points --------------------------------------------------------------------------------------------

ONE_CALL = ["onestep-edm", "onestep-edm-ft", "consistency", "consistency-ft"]


@pytest.mark.parametrize("name", ONE_CALL)
@pytest.mark.parametrize(("sigma", "level"), zip(SIGMAS, (0.5853, 1.0882, 1.9233), strict=True))
def test_karras18_tells_the_network_the_nearest_grid_point_and_changes_nothing_else(name, sigma, level):
    exact, grid = Listener(), Listener()
    purify(name, {}, sigma, exact)
    got = purify(name, {"conditioning": "karras18"}, sigma, grid)
    assert exact.levels_told == [2 * sigma]
    assert grid.levels_told == [pytest.approx(level, abs=5e-5)]
    assert torch.equal(exact.inputs[0], grid.inputs[0])
    wanted = GaussianDenoiser()(2 * noisy() - 1, grid.levels_told[0])
    assert torch.allclose(got, ((wanted + 1) / 2).clamp(0, 1), atol=1e-6)


def test_the_grid_is_that_of_the_networks_and_the_level_the_nearest_of_it():
    grid = np.array(karras_levels(80.0, 0.002, 18))
    assert conditioning._karras_grid(*conditioning._KARRAS18) == pytest.approx(grid)
    for t in np.geomspace(0.003, 70, 200):
        assert conditioning.grid_from(t)[0] == pytest.approx(grid[np.abs(grid - t).argmin()])


@pytest.mark.parametrize(("sigma", "nfe"), zip(SIGMAS, (13, 15, 17), strict=True))
def test_karras18_solves_the_ode_on_the_grids_tail_with_the_published_evaluations(sigma, nfe):
    heard = Listener()
    got = purify("pf-ode", {"conditioning": "karras18", "steps": 2}, sigma, heard)
    assert len(heard.levels_told) == nfe
    levels = heard.levels_told[::2]  # every step begins at its own level, and Heun's second call is at the next
    assert levels == pytest.approx(conditioning.grid_from(2 * sigma))
    assert heard.levels_told[1::2] == pytest.approx(levels[1:])
    # the published loop, written out in float64
    u = (2 * noisy() - 1).double()
    exact = GaussianDenoiser()
    for t, s in zip(levels, [*levels[1:], 0.0], strict=True):
        d = (u - exact(u, t)) / t
        euler = u + (s - t) * d
        u = euler if s == 0 else u + (s - t) / 2 * (d + (euler - exact(euler, s)) / s)
    assert torch.allclose(got.double(), ((u + 1) / 2).clamp(0, 1), atol=1e-5)


def test_exact_steps_of_the_ode_are_what_they_were():
    heard = Listener()
    purify("pf-ode", {"steps": 3, "t_end": 0.002}, 0.5, heard)
    assert heard.levels_told[::2] == pytest.approx(karras_levels(1.0, 0.002, 3))


def test_multistep_consistency_goes_down_from_the_grid_point():
    heard = Listener()
    purify("consistency", {"conditioning": "karras18", "steps": 2}, 0.5, heard)
    assert heard.levels_told == pytest.approx(karras_levels(heard.levels_told[0], 0.002, 3)[:2])
    assert heard.levels_told[0] == pytest.approx(1.0882, abs=5e-5)


# -- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ONE_CALL, "pf-ode"])
def test_without_clipping_values_outside_an_image_pass_and_those_inside_are_the_same(name):
    """A gain of 3 stands for a network that overshoots."""
    clipped = purify(name, {}, 0.25, Listener(3.0))
    free = purify(name, {"clip": False}, 0.25, Listener(3.0))
    assert float(free.min()) < 0 and float(free.max()) > 1
    assert torch.equal(free.clamp(0, 1), clipped)
    assert create(PURIFIER, name, {}).bounded and not create(PURIFIER, name, {"clip": "false"}).bounded


def test_plain_smoothing_is_never_clipped():
    assert not create(PURIFIER, "none", {}).bounded and create(PURIFIER, "sde", {}).bounded


# -- whole timesteps --------------------------------------------------------------------------------------------------


def abar() -> np.ndarray:
    """`abar_t` of improved-diffusion's chain, as its code computes it: betas of the cosine schedule, multiplied."""
    f = [math.cos((i / 4000 + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(4001)]
    return np.cumprod([1 - min(1 - f[i + 1] / f[i], 0.999) for i in range(4000)])


def test_the_chain_is_that_of_the_networks():
    wanted = np.sqrt(1 / abar() - 1)
    assert np.allclose(conditioning.chain_levels(), wanted, rtol=1e-9)
    ours = _cosine_alphas_cumprod(4000).numpy()
    assert np.allclose(np.sqrt(1 / ours - 1), wanted, rtol=1e-9)


@pytest.mark.parametrize(
    ("sigma", "nearest", "above"), zip(SIGMAS, (1159, 1984, 2810), (1158, 1984, 2809), strict=True)
)
def test_the_published_timesteps_are_found(sigma, nearest, above):
    assert conditioning.nearest_timestep(2 * sigma) == nearest
    assert conditioning.timestep_above(2 * sigma) == above
    assert conditioning.chain_levels()[above] >= 2 * sigma > conditioning.chain_levels()[above - 1]


def test_a_level_beyond_the_chain_is_refused():
    with pytest.raises(ValueError, match="above the chain's highest"):
        conditioning.timestep_above(1e9)


class Eps(torch.nn.Module):
    """A smooth function of image and timestep, in place of an eps-network."""

    def __init__(self):
        super().__init__()
        self.times: list[float] = []

    def forward(self, v, time):
        self.times.append(float(time[0]))
        return torch.sin(3 * v) * (1 + time.view(-1, 1, 1, 1) / 4000)


def pred_xstart(x_t: torch.Tensor, t: int) -> torch.Tensor:
    """One step of improved-diffusion at timestep `t`, clipped (`p_sample` with `clip_denoised`)."""
    a = abar()[t]
    eps = Eps()(x_t, torch.full((len(x_t),), float(t)))
    return (math.sqrt(1 / a) * x_t - math.sqrt(1 / a - 1) * eps).clamp(-1, 1)


def onestep(timestep: str, sigma: float) -> tuple[torch.Tensor, float]:
    network = Eps()
    purifier = create(PURIFIER, "onestep-ddpm", {"timestep": timestep})
    networks, index = {"ddpm": CountedNetwork(VPDenoiser(network, 4000, 10.0))}, torch.arange(4)
    got = purifier.purify(noisy(), sigma, networks, RowRng(0, "purifier", index, index))
    assert networks["ddpm"].rows == 4
    return 2 * got - 1, network.times[0]


@pytest.mark.parametrize(("sigma", "t"), zip(SIGMAS, (1159, 1984, 2810), strict=True))
def test_nearest_is_consistency_purifications_single_step(sigma, t):
    """`x_t = u / sqrt(1 + (2 sigma)^2)`, whatever `abar` is at the rounded timestep."""
    got, time = onestep("nearest", sigma)
    assert time == pytest.approx(t, abs=1e-3)
    wanted = pred_xstart((2 * noisy() - 1) / math.sqrt(1 + 4 * sigma**2), t)
    assert torch.allclose(got, wanted, atol=1e-5)


@torch.inference_mode()
def test_nearest_gives_what_the_reference_implementation_gives(shared_data):
    """improved-diffusion's own `pred_xstart`, clipped, through our loader of its checkpoints and this purifier."""
    from purifiers.nets import load

    folder = shared_data / "parity" / "iddpm_cifar10_uncond"
    arrays = np.load(folder / "arrays.npz")
    network, purifier = load(folder), create(PURIFIER, "onestep-ddpm", {"timestep": "nearest"})
    for sigma, t in zip(SIGMAS, (1159, 1984, 2810), strict=True):
        (at,) = np.flatnonzero(arrays["t"] == t)
        u = torch.from_numpy(arrays["x"][at]) * math.sqrt(1 + 4 * sigma**2)  # the input that the code scales to x_t
        index = torch.arange(len(u))
        networks = {"ddpm": CountedNetwork(network)}
        got = purifier.purify((u + 1) / 2, sigma, networks, RowRng(0, "purifier", index, index))
        wanted = torch.from_numpy(arrays["pred_xstart_clipped"][at])
        assert float((2 * got - 1 - wanted).abs().max()) < 1e-4 * max(1, 2 * sigma)


@pytest.mark.parametrize(("sigma", "t"), zip(SIGMAS, (1158, 1984, 2809), strict=True))
def test_above_is_diffsmooths_single_step(sigma, t):
    """`x_t = sqrt(abar_t) u`: the noise stays what it was."""
    got, time = onestep("above", sigma)
    assert time == pytest.approx(t, abs=1e-3)
    assert torch.allclose(got, pred_xstart(math.sqrt(abar()[t]) * (2 * noisy() - 1), t), atol=1e-5)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_above_noised_adds_just_the_noise_that_the_forward_process_has_more(sigma):
    """diffusion_denoised_smoothing draws its noise at level `sqrt(1/abar - 1)` of the timestep."""
    t = conditioning.timestep_above(2 * sigma)
    level = math.sqrt(1 / abar()[t] - 1)
    heard, index = Listener(), torch.arange(2000)
    purifier = create(PURIFIER, "onestep-ddpm", {"timestep": "above-noised"})
    x = torch.zeros(2000, 1, 8, 8)
    purifier.purify(x, sigma, {"ddpm": CountedNetwork(heard)}, RowRng(0, "purifier", index, index))
    added = heard.inputs[0] - (2 * x - 1)
    assert heard.levels_told == [pytest.approx(level)]
    wanted = math.sqrt(level**2 - (2 * sigma) ** 2)
    assert float(added.std()) == pytest.approx(wanted, rel=0.02)
    assert abs(float(added.mean())) < 4 * wanted / math.sqrt(added.numel()) + 1e-7


def test_the_exact_timestep_lies_between_two():
    _, time = onestep("exact", 0.25)
    assert 1157 < time < 1158


# -- all options ------------------------------------------------------------------------------------------------------

OPTIONS = [
    ("onestep-edm", {"conditioning": "karras18", "clip": False}),
    ("onestep-edm-ft", {"conditioning": "karras18", "clip": False}),
    ("consistency", {"conditioning": "karras18", "clip": False}),
    ("consistency-ft", {"conditioning": "karras18", "clip": False}),
    ("pf-ode", {"conditioning": "karras18", "clip": False}),
    ("onestep-ddpm", {"timestep": "nearest"}),
    ("onestep-ddpm", {"timestep": "above"}),
    ("onestep-ddpm", {"timestep": "above-noised"}),
]


@pytest.mark.parametrize("check", PURIFIER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda v: v if isinstance(v, str) else str(v))
def test_a_purifier_conforms_under_its_options(name, options, check):
    check(create(PURIFIER, name, options))


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=lambda v: v if isinstance(v, str) else str(v))
def test_an_option_is_part_of_a_cell_only_when_it_is_on(name, options):
    plain = parameters(create(PURIFIER, name, {}))
    assert not set(plain) & {"conditioning", "clip", "timestep"}
    assert parameters(create(PURIFIER, name, options)) == {**plain, **options}


@pytest.mark.parametrize(("name", "options"), OPTIONS[:1] + OPTIONS[-1:], ids=str)
def test_an_unknown_way_is_refused_by_name(name, options):
    option = next(iter(options))
    with pytest.raises(PluginError, match=option):
        create(PURIFIER, name, {option: "karras19"})


def test_by_default_one_step_purifiers_are_what_they_were():
    x, y, _ = _run(create(PURIFIER, "onestep-edm", {}))
    assert torch.allclose(y, ((GaussianDenoiser()(2 * x - 1, 1.0) + 1) / 2).clamp(0, 1))
