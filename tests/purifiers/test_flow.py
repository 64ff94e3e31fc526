"""Velocity networks of flow matching are exact denoisers, and sample as their own schedulers do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from diffusers import (
    DDPMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    FlowMatchHeunDiscreteScheduler,
    UNet2DModel,
)

from purifiers.ddim import DDIM
from purifiers.nets import convert, load
from purifiers.nets.flow import FlowDenoiser
from purifiers.nets.hub.cards import WeightsError

UNET = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "UpBlock2D"),
}
DIT = {
    "num_attention_heads": 2,
    "attention_head_dim": 8,
    "in_channels": 3,
    "num_layers": 2,
    "sample_size": 8,
    "num_embeds_ada_norm": 4,
}
N = 1000


@pytest.fixture
def repository(tmp_path):
    """A factory of repositories: `(folder, network)` of a scheduler, with random weights."""

    def write(scheduler, make=UNet2DModel, part="unet", **config):
        torch.manual_seed(0)
        network = make(**(UNET if make is UNet2DModel else DIT), **config).eval()
        network.save_pretrained(tmp_path / part)
        scheduler.save_pretrained(tmp_path / "scheduler")
        return tmp_path, network

    return write


def euler(scheduler, velocity, x):
    """The image at time 0, by the scheduler's own steps from its first timestep."""
    for time in scheduler.timesteps:
        x = scheduler.step(velocity(x, time), time, x).prev_sample
    return x


@torch.no_grad()
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("index", [0, 1, 500, 998])  # of time 0.999 and lower, to 0.001: both ends
def test_the_denoiser_is_the_step_of_the_scheduler_to_time_zero(repository, shift, index):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    folder, unet = repository(scheduler)
    s, time = scheduler.sigmas[1 + index].double(), scheduler.timesteps[1 + index]
    t = float(s / (1 - s))
    torch.manual_seed(1)
    u = 0.5 * torch.randn(2, 3, 8, 8) + t * torch.randn(2, 3, 8, 8)
    x = ((1 - s) * u).float()
    scheduler.sigmas = torch.tensor([s, 0.0])
    scheduler.timesteps = time[None]
    expected = scheduler.step(unet(x, time).sample, time, x).prev_sample
    network = load(folder)
    assert network.t_min < t < network.t_max
    assert torch.allclose(network.denoise(u, t), expected, atol=2e-5)
    assert torch.allclose(network(u, torch.full((2,), t)), expected, atol=2e-5)


@torch.no_grad()
@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_ddim_takes_the_steps_of_the_scheduler(repository, shift, steps):
    """The purifier's levels, times, calls and result, from the noise level of the scheduler's first timestep."""
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    folder, unet = repository(scheduler)
    network = load(folder)
    scheduler.set_timesteps(sigmas=np.linspace(0.7, 0.7 / steps, steps).tolist())
    s = scheduler.sigmas[:-1].double()
    levels = (s / (1 - s)).tolist()
    assert network.levels(levels[0], steps) == pytest.approx(levels, rel=1e-5)
    assert network.levels(levels[0], steps, levels[-1]) == pytest.approx(levels[: max(1, steps)], rel=1e-5)
    u = torch.randn(2, 3, 8, 8) * (0.5 + levels[0])
    expected = euler(scheduler, lambda x, time: unet(x, time).sample, ((1 - s[0]) * u).float())
    assert torch.allclose(DDIM(steps, t_end=None).restore(u, levels[0], {"edm": network}, None), expected, atol=2e-5)


@torch.no_grad()
def test_a_network_whose_time_runs_from_noise_to_image_is_turned_round(repository):
    """`invert_sigmas`: the input is `1 - s`, and the output is the velocity towards the image."""
    scheduler = FlowMatchEulerDiscreteScheduler(invert_sigmas=True)
    folder, unet = repository(scheduler)
    scheduler.set_timesteps(sigmas=[0.6])
    assert scheduler.timesteps.tolist() == pytest.approx([400.0])
    x = torch.randn(2, 3, 8, 8)
    expected = euler(scheduler, lambda x, time: unet(x, time).sample, x)
    assert torch.allclose(load(folder).denoise(x / 0.4, 0.6 / 0.4), expected, atol=2e-5)


@torch.no_grad()
def test_the_times_of_a_network_may_lie_between_0_and_1(repository):
    folder, unet = repository(FlowMatchEulerDiscreteScheduler(num_train_timesteps=1))
    u = torch.randn(2, 3, 8, 8)
    expected = u / 4 - 0.75 * unet(u / 4, torch.tensor([0.75])).sample
    assert torch.allclose(load(folder).denoise(u, 3.0), expected, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("scheduler", [FlowMatchEulerDiscreteScheduler(), FlowMatchHeunDiscreteScheduler()])
def test_a_transformer_on_pixels_is_a_velocity_network_too(repository, tmp_path, scheduler):
    folder, dit = repository(scheduler, DiTTransformer2DModel, "transformer")
    network = load(folder)
    u, labels = torch.randn(2, 3, 8, 8), torch.tensor([1, 4])  # 4: no class
    expected = u / 2 - dit(u / 2, torch.full((2,), 500.0), class_labels=labels).sample / 2
    assert torch.allclose(network.denoise(u, 1.0, labels), expected, atol=1e-5)
    again = load(convert(folder, tmp_path / "converted.safetensors"))
    assert torch.equal(again.denoise(u, 1.0, labels), network.denoise(u, 1.0, labels))


@torch.no_grad()
def test_the_mean_label_of_a_transformer_leaves_out_no_class(repository):
    folder, dit = repository(FlowMatchEulerDiscreteScheduler(), DiTTransformer2DModel, "transformer")
    u = torch.randn(2, 3, 8, 8)
    for block in dit.transformer_blocks:
        table = block.norm1.emb.class_embedder.embedding_table.weight
        table[0] = table[:4].mean(0)
    expected = u / 2 - dit(u / 2, torch.full((2,), 500.0), class_labels=torch.zeros(2, dtype=torch.int64)).sample / 2
    assert torch.allclose(load(f"{folder}?label=mean").denoise(u, 1.0), expected, atol=1e-5)


@torch.no_grad()
def test_a_transformer_of_a_chain_predicts_noise_with_its_first_channels(repository):
    scheduler = DDPMScheduler()
    folder, dit = repository(scheduler, DiTTransformer2DModel, "transformer", out_channels=6)
    u, labels, abar = torch.randn(2, 3, 8, 8), torch.tensor([0, 3]), scheduler.alphas_cumprod[300]
    t = float(((1 - abar) / abar).sqrt())
    eps = dit(u * abar.sqrt(), torch.full((2,), 300.0), class_labels=labels).sample[:, :3]
    assert torch.allclose(load(folder).denoise(u, t, labels), u - t * eps, atol=1e-4)


@torch.no_grad()
def test_the_exact_velocity_of_gaussian_images_gives_their_posterior_mean():
    """Images of mean m and deviation d: `E[u0 | u] = m + d^2 / (d^2 + t^2) (u - m)`, at every level."""
    mean, deviation = 0.3, 0.5

    class Velocity(torch.nn.Module):
        def forward(self, x, time):
            s = (time / N).double().view(-1, 1, 1, 1)
            variance = ((1 - s) * deviation) ** 2 + s**2
            score = (x - (1 - s) * mean) / variance
            return (s * score - (mean + (1 - s) * deviation**2 * score)).float()

    denoiser = FlowDenoiser(Velocity())
    for t in (denoiser.t_min, 0.5, 2.0, denoiser.t_max):
        u = mean + (deviation + t) * torch.randn(3, 1, 4, 4)
        expected = mean + deviation**2 / (deviation**2 + t**2) * (u - mean)
        assert torch.allclose(denoiser(u, t), expected, atol=2e-5), t


def test_a_level_above_the_range_is_refused(repository):
    network = load(repository(FlowMatchEulerDiscreteScheduler())[0])
    with pytest.raises(ValueError, match="above t_max = 1000"):
        network(torch.zeros(1, 3, 8, 8), 1500.0)


# --- what is refused


def index(folder, **parts):
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline", **parts}))


@pytest.mark.parametrize("part", ["vae", "vqvae"])
def test_a_latent_model_is_refused_with_the_reason(repository, part):
    folder, _ = repository(FlowMatchEulerDiscreteScheduler())
    index(folder, **{part: [None, None]})
    load(folder)
    index(folder, **{part: ["diffusers", "AutoencoderKL"]})
    with pytest.raises(WeightsError, match=f"latent model .it has a {part}.*adds noise to pixels"):
        load(folder)
    index(folder)
    (folder / part).mkdir()
    with pytest.raises(WeightsError, match="latent model"):
        load(folder)


def test_a_transformer_that_reads_a_text_is_refused_by_its_name(repository):
    folder, _ = repository(FlowMatchEulerDiscreteScheduler(), DiTTransformer2DModel, "transformer")
    config = folder / "transformer" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "_class_name": "SD3Transformer2DModel"}))
    with pytest.raises(WeightsError, match="SD3Transformer2DModel; only UNet2DModel and DiTTransformer2DModel"):
        load(folder)


def test_a_shift_that_is_not_positive_is_refused(repository):
    folder, _ = repository(FlowMatchEulerDiscreteScheduler())
    config = folder / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "shift": 0}))
    with pytest.raises(WeightsError, match="shift must be positive"):
        load(folder)
