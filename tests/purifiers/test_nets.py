"""Preconditioning, schedules and weight files."""

import pytest
import torch

from purifiers.nets.architectures.unet import PixelUNet
from purifiers.nets.denoisers import (
    ConsistencyFunction,
    EDMDenoiser,
    VPDenoiser,
    _cosine_alphas_cumprod,
    karras_levels,
)
from purifiers.nets.hub.cards import Card, WeightsError, read_card
from purifiers.nets.hub.files import build, load, save

ARCHITECTURE = {"channels": 1, "image_size": 8, "widths": [8, 16], "groups": 4}
RANGE = {"t_min": 0.002, "t_max": 6.0}


def network(seed=0):
    torch.manual_seed(seed)
    return PixelUNet(**ARCHITECTURE)


class Constant(torch.nn.Module):
    """Answers with a fixed image and keeps what it was asked."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, v, time):
        self.v, self.time = v, time
        return self.value.expand_as(v)


@torch.no_grad()
def test_the_consistency_function_is_the_identity_at_eps():
    u = torch.randn(4, 1, 8, 8)
    assert torch.allclose(ConsistencyFunction(network(), 0.002, 3.0)(u, 0.002), u, atol=1e-6)


@torch.no_grad()
def test_edm_preconditioning_is_karras_table_1():
    t, sd = 0.7, 0.5
    inner = Constant(torch.tensor(0.3))
    u = torch.randn(2, 1, 8, 8)
    found = EDMDenoiser(inner, **RANGE)(u, t)
    assert torch.allclose(found, sd**2 / (t**2 + sd**2) * u + t * sd / (t**2 + sd**2) ** 0.5 * 0.3)
    assert torch.allclose(inner.v, u / (t**2 + sd**2) ** 0.5)


@torch.no_grad()
def test_a_level_for_each_row_gives_what_each_alone_gives():
    u, t = torch.randn(3, 1, 8, 8), torch.tensor([0.1, 0.5, 2.0])
    for denoiser in (EDMDenoiser(network(), **RANGE), VPDenoiser(network(), 1000, 6.0)):
        rows = [denoiser(u[i : i + 1], float(t[i])) for i in range(3)]
        assert torch.allclose(denoiser(u, t), torch.cat(rows), atol=1e-5)


@torch.no_grad()
def test_a_ddpm_step_is_the_formula_of_carlini_et_al():
    """`u0 = (u_t - sqrt(1 - abar) eps) / sqrt(abar)` at a timestep of the chain, `u_t` scaled as the chain has it."""
    k = 400
    abar = _cosine_alphas_cumprod(1000)[k]
    t = float(((1 - abar) / abar).sqrt())
    inner = Constant(torch.tensor(0.1))
    u = 0.2 * torch.randn(2, 1, 8, 8)
    found = VPDenoiser(inner, 1000, 6.0)(u, t)
    x_t = u * float(abar.sqrt())
    expected = (x_t - float((1 - abar).sqrt()) * 0.1) / float(abar.sqrt())
    assert torch.allclose(found, expected.clamp(-1, 1), atol=1e-5)
    assert torch.allclose(inner.v, x_t, atol=1e-6)
    assert float(inner.time[0]) == pytest.approx(k, abs=1e-3)


def test_a_level_between_two_timesteps_is_neither_rounded_nor_ignored():
    denoiser = VPDenoiser(network(), 1000, 6.0)
    level = denoiser.log_t.exp()
    middle = (level[300] * level[301]).sqrt()
    assert float(denoiser.timestep(middle[None])[0]) == pytest.approx(300.5, abs=1e-6)


def test_the_cosine_schedule_is_the_one_of_iddpm():
    """The first timesteps whose noise-to-signal ratio reaches 0.5, 1 and 2 of 4000 are the published ones."""
    abar = _cosine_alphas_cumprod(4000)
    ratio = ((1 - abar) / abar).sqrt()
    assert [int((ratio >= t).nonzero()[0]) for t in (0.5, 1.0, 2.0)] == [1158, 1984, 2809]


def test_the_chains_levels_are_even_in_timestep_and_start_at_the_noise():
    denoiser = VPDenoiser(network(), 1000, 6.0)
    levels = denoiser.levels(1.0, 5)
    assert levels[0] == 1.0
    steps = denoiser.timestep(torch.tensor(levels, dtype=torch.float64))
    assert torch.allclose(steps.diff(), steps.diff()[0].expand(4), atol=1e-3)
    assert levels == sorted(levels, reverse=True) and levels[-1] > 0


def test_the_karras_grid_runs_from_the_noise_to_t_min():
    levels = karras_levels(80.0, 0.002, 18)
    assert (levels[0], levels[-1], len(levels)) == (80.0, 0.002, 18)
    # published by Consistency Purification: the grid points nearest to 0.5, 1 and 2
    for t, nearest in ((0.5, 0.5853), (1.0, 1.0882), (2.0, 1.9233)):
        assert min(levels, key=lambda level: abs(level - t)) == pytest.approx(nearest, abs=5e-5)


@pytest.mark.parametrize("t", [7.0, torch.tensor([0.5, 7.0])])
def test_a_level_above_the_trained_ones_is_refused(t):
    denoiser = EDMDenoiser(network(), **RANGE)
    with pytest.raises(ValueError, match=r"t_max = 6.*smaller sigma"):
        denoiser(torch.zeros(2, 1, 8, 8), t)


def test_an_image_size_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="image_size 30"):
        PixelUNet(channels=1, image_size=30, widths=[8, 16])


@pytest.mark.parametrize(
    ("kind", "extra"), [("edm", RANGE), ("consistency", RANGE), ("vp", {"timesteps": 100, "t_max": 6.0})]
)
def test_saved_weights_load_as_the_same_network(tmp_path, kind, extra):
    card = Card(kind, ARCHITECTURE, extra, {"seed": 0})
    made = build(card)
    path = save(tmp_path / "net.safetensors", made.network, card)
    loaded = load(path)
    u = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        assert torch.allclose(loaded(u, 1.0), made(u, 1.0), atol=5e-2)  # stored in float16
    assert torch.equal(loaded(u, 1.0), load(path)(u, 1.0))
    assert read_card(path).training == {"seed": 0}
    assert not any(p.requires_grad for p in loaded.parameters())


def test_missing_weights_list_the_bundled_ones(tmp_path):
    with pytest.raises(WeightsError, match="mnist5k/edm"):
        load(tmp_path / "nothing.safetensors")
