"""A world where everything is known: a Gaussian mixture, its posterior mean, its PF-ODE, and pA."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from bench.certify.base import Tally
from bench.certify.fixed import FixedN, certified_radius
from bench.engine.meter import CountedNetwork
from bench.engine.noise import SMOOTHING, RowRng
from bench.plugins.registry import PURIFIER, create
from purifiers.nets.denoisers import karras_levels

MODES = torch.tensor([[0.6, 0.6, 0.6, 0.6], [-0.6, -0.6, -0.6, -0.6]]).view(2, 1, 2, 2)
WIDTH = 0.1


class MixtureDenoiser:
    """`E[u0 | u]` for two Gaussian modes of standard deviation WIDTH, in closed form."""

    t_min, t_max = 0.002, 80.0

    def __call__(self, u, t):
        t2 = torch.as_tensor(t, dtype=u.dtype).expand(len(u)).view(-1, 1, 1, 1) ** 2
        total = t2 + WIDTH**2
        modes = MODES.to(u.dtype)
        distances = ((u[:, None] - modes) ** 2).flatten(2).sum(2) / (2 * total.view(-1, 1))
        weights = (-distances).softmax(1).view(-1, 2, 1, 1, 1)
        means = (modes * t2[:, None] + u[:, None] * WIDTH**2) / total[:, None]
        return (weights * means).sum(1)

    def levels(self, t, steps, t_end=None):
        return karras_levels(t, max(self.t_min, t_end or 0.0), steps)


class OneModeDenoiser(MixtureDenoiser):
    """One mode at 0: the PF-ODE scales `u` by `sqrt((t^2 + w^2) / (t0^2 + w^2))`."""

    def __call__(self, u, t):
        t2 = torch.as_tensor(t, dtype=u.dtype).expand(len(u)).view(-1, 1, 1, 1) ** 2
        return u * WIDTH**2 / (WIDTH**2 + t2)


def restore(name, u, t, denoiser=OneModeDenoiser, **parameters):
    purifier = create(PURIFIER, name, parameters)
    rows = torch.arange(len(u))
    networks = {role: CountedNetwork(denoiser()) for role in purifier.networks}
    return purifier.restore(u, t, networks, RowRng(0, "purifier", rows, rows))


def pf_ode_endpoint(u, t, s=0.0):
    return u * math.sqrt((s**2 + WIDTH**2) / (t**2 + WIDTH**2))


def errors(name, steps, t=1.0, **parameters):
    u = torch.linspace(-1, 1, 8, dtype=torch.float64).view(8, 1, 1, 1)
    exact = pf_ode_endpoint(u, t)
    return [float((restore(name, u, t, steps=n, **parameters) - exact).abs().max()) for n in steps]


def test_one_step_edm_is_the_posterior_mean():
    """Against the mean of the clean images of many simulated pairs that gave nearly the same noisy one."""
    t, n = 1.0, 400_000
    generator = torch.Generator().manual_seed(0)
    mode = torch.randint(2, (n,), generator=generator)
    u0 = MODES[mode] + WIDTH * torch.randn(n, 1, 2, 2, generator=generator)
    u = u0 + t * torch.randn(n, 1, 2, 2, generator=generator)
    along = u.flatten(1).mean(1)  # by symmetry the posterior depends on the mean pixel, and on the pixel itself
    for centre in (-0.5, 0.0, 0.4):
        near = (along - centre).abs() < 0.02
        predicted = restore("onestep-edm", u[near], t, MixtureDenoiser)
        # the average over the neighbourhood of both sides has the standard error of the simulation only
        spread = 4 * float(u0[near].std()) / math.sqrt(int(near.sum()) * 4) * 2
        assert float(predicted.mean()) == pytest.approx(float(u0[near].mean()), abs=spread)


def test_heun_converges_at_second_order():
    # the grid ends at t_min, from where Euler's step costs about t_min^2; refine well above that
    coarse, fine = errors("pf-ode", (17, 33), t_end=0.002)
    assert math.log2(coarse / fine) == pytest.approx(2, abs=0.35)


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun2", 2), ("heun3", 3), ("rk4", 4)])
def test_fixed_solvers_of_torchdiffeq_converge_at_their_order(solver, order):
    """Against the exact solution at `t_end`, whose last denoising step is then applied exactly."""
    t, t_end = 1.0, 0.05
    u = torch.linspace(-1, 1, 8, dtype=torch.float64).view(8, 1, 1, 1)
    exact = OneModeDenoiser()(pf_ode_endpoint(u, t, t_end), t_end)
    steps = (8, 16) if order > 2 else (32, 64)
    found = [restore("pf-ode-torchdiffeq", u, t, solver=solver, steps=n, t_end=t_end) for n in steps]
    coarse, fine = (float((f - exact).abs().max()) for f in found)
    # a linear equation flatters some solvers by an order, but none may fall short of its own
    assert order - 0.4 < math.log2(coarse / fine) < order + 1.2


@pytest.mark.parametrize("solver", ["dopri8", "dopri5", "bosh3", "fehlberg2", "adaptive_heun"])
def test_adaptive_solvers_reach_the_exact_solution(solver):
    u = torch.linspace(-1, 1, 4, dtype=torch.float64).view(4, 1, 1, 1)
    exact = OneModeDenoiser()(pf_ode_endpoint(u, 1.0, 0.05), 0.05)
    found = restore("pf-ode-torchdiffeq", u, 1.0, solver=solver, rtol=1e-5, atol=1e-6, t_end=0.05)
    assert float((found - exact).abs().max()) < 5e-4  # local errors of 1e-5 add up over the steps


def test_the_stochastic_samplers_keep_the_datas_distribution():
    """From noisy data of one Gaussian mode they must return that mode's width; Euler-Maruyama to first order."""
    t, n = 1.0, 20_000
    generator = torch.Generator().manual_seed(0)
    u0 = WIDTH * torch.randn(n, 1, 1, 1, generator=generator, dtype=torch.float64)
    u = u0 + t * torch.randn(n, 1, 1, 1, generator=generator, dtype=torch.float64)
    ancestral = restore("ddpm", u, t, steps=200, t_end=0.002)
    churned = restore("edm-stochastic", u, t, steps=40, churn=4.0, noise_scale=1.0, t_end=0.002)
    maruyama = restore("sde", u, t, steps=800, t_end=0.002)
    assert float(ancestral.std()) == pytest.approx(WIDTH, rel=0.05)
    assert float(churned.std()) == pytest.approx(WIDTH, rel=0.05)
    assert float(maruyama.std()) == pytest.approx(WIDTH, rel=0.1)


def classify(purified):
    return (purified.flatten(1).mean(1) < 0).long()


def count(name, u0, sigma, n0, n):
    """Votes `[images, 2]` of selection and estimation for clean `u0 [B,1,2,2]`, with the project's own noise."""
    votes = []
    for first, draws in ((1 << 40, n0), (0, n)):
        images = torch.arange(len(u0)).repeat_interleave(draws)
        index = torch.arange(draws).repeat(len(u0)) + first
        noise = RowRng(7, SMOOTHING, images, index).normal(torch.empty(len(images), 1, 2, 2))
        u = u0[images] + 2 * sigma * noise
        predicted = classify(restore(name, u, 2 * sigma, MixtureDenoiser)).view(len(u0), draws)
        votes.append(torch.stack([(predicted == k).sum(1) for k in (0, 1)], 1).numpy())
    return votes


@pytest.mark.parametrize("name", ["onestep-edm", "pf-ode", "pf-ode-torchdiffeq"])
def test_certified_radii_exceed_the_true_one_no_more_often_than_alpha_allows(name):
    """The mixture is symmetric, so the purified class is the sign of the mean pixel and pA is a normal probability."""
    sigma, alpha, n = 0.5, 0.05, 100
    margins = torch.linspace(0.02, 0.8, 600)  # distance of the mean pixel from the boundary, in u
    u0 = margins.view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    select, estimate = count(name, u0, sigma, 10, n)
    # in pixel units the boundary is the plane of mean 1/2: distance = margin / 2 * sqrt(pixels)
    true_radius = margins.numpy() / 2 * math.sqrt(4)
    p_a = stats.norm.cdf(true_radius / sigma)
    rule = FixedN(sigma, 10, n, alpha)
    too_far = 0
    for i in range(len(u0)):
        certificate = rule.certify(Tally({0: select[i].tolist()}, {0: estimate[i].tolist()}))
        wrong_class = certificate.predicted == 1
        too_far += wrong_class or certificate.radius > true_radius[i]
    assert too_far <= stats.binom.ppf(0.9999, len(u0), alpha)
    # and the bound is not idle: hits follow the known pA, and radii come close to the true ones
    assert stats.chi2.sf(((estimate[:, 0] - n * p_a) ** 2 / (n * p_a * (1 - p_a))).sum(), len(u0)) > 1e-4
    assert too_far > 0
    assert np.mean(estimate[:, 0] / n) == pytest.approx(p_a.mean(), abs=0.01)


def test_the_exact_radius_is_the_distance_to_the_boundary():
    assert certified_radius(stats.norm.cdf(0.8 / 0.5), 0.5) == pytest.approx(0.8)
