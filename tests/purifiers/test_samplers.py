"""The samplers of several steps: as their schedulers, of their order, and no worse than one step at a fair end."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from test_mixture import MODES, WIDTH, MixtureDenoiser, OneModeDenoiser, pf_ode_endpoint, restore

ODE = ["ddim", "dpm-solver", "unipc", "pf-ode", "pf-ode-torchdiffeq"]
STOCHASTIC = ["ddpm", "edm-ancestral", "edm-stochastic", "sde"]
T_END = 0.05


def noisy(count, t, seed=0):
    """Clean images of the two modes and the same with noise, `[count,1,2,2]`, float64."""
    generator = torch.Generator().manual_seed(seed)
    mode = torch.randint(2, (count,), generator=generator)
    u0 = MODES.double()[mode] + WIDTH * torch.randn(count, 1, 2, 2, generator=generator, dtype=torch.float64)
    return u0, u0 + t * torch.randn(count, 1, 2, 2, generator=generator, dtype=torch.float64)


def by_scheduler(scheduler, u, t, steps, t_end):
    """The result of a scheduler of diffusers on the same levels; its images are scaled as on the VP chain."""
    denoise = MixtureDenoiser()
    levels = denoise.levels(t, steps, t_end)
    scheduler.set_timesteps(steps)
    scheduler.sigmas = torch.tensor([*levels, 0.0], dtype=torch.float64)
    x = u / math.sqrt(1 + t**2)
    for level, timestep in zip(levels, scheduler.timesteps, strict=True):
        u0 = denoise(math.sqrt(1 + level**2) * x, level)
        x = scheduler.step(u0, timestep, x).prev_sample
    return x


@pytest.mark.parametrize("order", [2, 3])
@pytest.mark.parametrize("steps", [2, 3, 6])
def test_dpm_solver_is_that_of_diffusers(order, steps):
    from diffusers import DPMSolverMultistepScheduler

    _, u = noisy(16, 1.0)
    settings = {"solver_order": order, "prediction_type": "sample", "lower_order_final": False}
    scheduler = DPMSolverMultistepScheduler(**settings, euler_at_final=True)
    ours = restore("dpm-solver", u, 1.0, MixtureDenoiser, steps=steps, order=order, t_end=T_END)
    assert torch.allclose(ours, by_scheduler(scheduler, u, 1.0, steps, T_END), atol=1e-5)


@pytest.mark.parametrize("steps", [2, 3, 6])
def test_unipc_is_that_of_diffusers(steps):
    from diffusers import UniPCMultistepScheduler

    _, u = noisy(16, 1.0)
    scheduler = UniPCMultistepScheduler(solver_order=2, prediction_type="sample", lower_order_final=True)
    ours = restore("unipc", u, 1.0, MixtureDenoiser, steps=steps, t_end=T_END)
    assert torch.allclose(ours, by_scheduler(scheduler, u, 1.0, steps, T_END), atol=1e-5)


def test_ddim_is_eulers_method():
    _, u = noisy(16, 1.0)
    euler = restore("pf-ode-torchdiffeq", u, 1.0, MixtureDenoiser, solver="euler", steps=4, t_end=T_END)
    assert torch.allclose(restore("ddim", u, 1.0, MixtureDenoiser, steps=5, t_end=T_END), euler, atol=1e-8)


@pytest.mark.parametrize(
    ("name", "parameters", "order"),
    [("ddim", {}, 1), ("dpm-solver", {"order": 2}, 2), ("dpm-solver", {"order": 3}, 2), ("unipc", {}, 3)],
)
def test_solvers_converge_at_their_order(name, parameters, order):
    """Against the exact solution at `t_end`.

    UniPC-2 has order 3 with its corrector; the first step of (3M) has order 1, so the whole has 2.
    """
    u = torch.linspace(-1, 1, 8, dtype=torch.float64).view(8, 1, 1, 1)
    exact = OneModeDenoiser()(pf_ode_endpoint(u, 1.0, T_END), T_END)
    found = [restore(name, u, 1.0, steps=n, t_end=T_END, **parameters) for n in (40, 80)]
    coarse, fine = (float((f - exact).abs().max()) for f in found)
    assert order - 0.4 < math.log2(coarse / fine) < order + 1.2


@pytest.mark.parametrize("name", STOCHASTIC)
def test_stochastic_samplers_converge_to_the_law_of_the_data(name):
    u0, u = noisy(4000, 1.0)
    found = restore(name, u, 1.0, MixtureDenoiser, steps=400 if name == "sde" else 100, t_end=0.002)
    assert distance(found, u0) < 0.03


def distance(found, u0):
    """Between the laws of one pixel: purified and clean."""
    return wasserstein_distance(found[:, 0, 0, 0].numpy(), u0[:, 0, 0, 0].numpy())


@pytest.mark.parametrize("t", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("name", [*ODE, *STOCHASTIC])
def test_no_sampler_is_at_its_default_end_further_from_the_data_than_one_step(name, t):
    u0, u = noisy(4000, t)
    one_step = distance(restore("onestep-edm", u, t, MixtureDenoiser), u0)
    steps = {} if name == "pf-ode-torchdiffeq" else {"steps": 50 if name == "sde" else 5}
    assert distance(restore(name, u, t, MixtureDenoiser, **steps), u0) <= one_step + 0.002


@pytest.mark.parametrize("name", [*ODE, "ddpm", "edm-ancestral", "edm-stochastic"])
@pytest.mark.parametrize("steps", [2, 3, 5, 10])
def test_few_steps_leave_little_of_the_noise(name, steps):
    """The width of a purified mode: near 0 for one step, which gives means; at most the data's own for a sampler."""
    _, u = noisy(4000, 0.2)  # a level at which no image changes its mode
    found = restore(name, u, 0.2, MixtureDenoiser, steps=steps)[:, 0, 0, 0].numpy()
    assert np.std(found[found > 0]) < 1.25 * WIDTH


def test_a_vote_of_one_run_is_that_run():
    _, u = noisy(8, 1.0)
    one = restore("ddpm", u, 1.0, MixtureDenoiser, steps=3)
    votes = restore("densepure", u, 1.0, MixtureDenoiser, steps=3, votes=4)
    assert votes.shape == (4, *u.shape) and torch.equal(votes[0], one)
    assert not torch.allclose(votes[0], votes[1])
