"""diffusers repositories give the images that their own schedulers would predict."""

from __future__ import annotations

import json

import foreign
import pytest
import torch
from diffusers import (
    CMStochasticIterativeScheduler,
    DDIMScheduler,
    DDPMScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    UNet2DModel,
)

from purifiers.nets import load
from purifiers.nets.denoisers import ConsistencyFunction
from purifiers.nets.hub.cards import WeightsError

SMALL = {
    "sample_size": 8,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "attention_head_dim": 4,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


@pytest.fixture
def repository(tmp_path):
    """A factory of repositories: `(folder, unet)` of a scheduler, with a random UNet2DModel."""

    def write(scheduler, flat=False, **config):
        torch.manual_seed(0)
        unet = UNet2DModel(**{**SMALL, **config}).eval()
        unet.save_pretrained(tmp_path / ("." if flat else "unet"))
        scheduler.save_pretrained(tmp_path / ("." if flat else "scheduler"))
        return tmp_path, unet

    return write


SCHEDULES = [
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 1e-4, "beta_end": 0.02},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "sigmoid"},
    {"trained_betas": torch.linspace(1e-4, 0.03, 200).tolist(), "num_train_timesteps": 200},
    {"rescale_betas_zero_snr": True},
]


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_a_ddpm_repository_predicts_what_its_scheduler_does(repository, schedule, prediction):
    scheduler = DDPMScheduler(prediction_type=prediction, clip_sample=False, **schedule)
    folder, unet = repository(scheduler)
    network = load(folder)
    for k in (3, 120, 190):
        abar = scheduler.alphas_cumprod[k]
        t = ((1 - abar) / abar).sqrt()
        u = torch.randn(2, 3, 8, 8) * (1 + t)
        x = u * abar.sqrt()
        expected = scheduler.step(unet(x, k).sample, k, x).pred_original_sample
        bound = {"atol": 2e-4 * max(1.0, float(t)), "rtol": 1e-4}
        assert torch.allclose(network.denoise(u, float(t)), expected, **bound)
        assert torch.allclose(network(u, float(t)), expected.clamp(-1, 1), **bound)


@torch.no_grad()
def test_a_ddim_repository_is_a_chain_too_and_may_lie_flat(repository):
    folder, unet = repository(DDIMScheduler(beta_schedule="linear"), flat=True)
    network = load(folder)
    abar = DDPMScheduler().alphas_cumprod[500]
    t = float(((1 - abar) / abar).sqrt())
    u = torch.randn(2, 3, 8, 8)
    eps = unet(u * abar.sqrt(), 500).sample
    assert torch.allclose(network.denoise(u, t), u - t * eps, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("scheduler", [EDMEulerScheduler, EDMDPMSolverMultistepScheduler])
def test_an_edm_repository_predicts_what_its_scheduler_does(repository, scheduler, prediction):
    made = scheduler(prediction_type=prediction, sigma_data=0.6)
    folder, unet = repository(made)
    u, t = torch.randn(2, 3, 8, 8), torch.tensor(0.7)
    raw = unet(made.precondition_inputs(u, t), made.precondition_noise(t)).sample
    assert torch.allclose(load(folder).denoise(u, 0.7), made.precondition_outputs(u, raw, t), atol=1e-5)


@torch.no_grad()
def test_a_consistency_repository_predicts_what_its_scheduler_does(repository):
    made = CMStochasticIterativeScheduler(clip_denoised=False)
    folder, unet = repository(made, num_class_embeds=5)
    made.set_timesteps(timesteps=[12])
    t = made.sigmas[0]
    u, labels = torch.randn(2, 3, 8, 8) * t, torch.tensor([1, 4])
    raw = unet(made.scale_model_input(u, made.timesteps[0]), made.timesteps[0], class_labels=labels).sample
    expected = made.step(raw, made.timesteps[0], u).prev_sample
    network = load(folder)
    assert isinstance(network, ConsistencyFunction) and network.classes == 5
    assert torch.allclose(network.consistency(u, float(t), labels), expected, atol=1e-4)


@torch.no_grad()
def test_levels_between_timesteps_are_conditioned_in_between(repository):
    """No level is rounded: halfway between two timesteps the network is told so."""
    folder, unet = repository(DDPMScheduler())
    network = load(folder)
    t = (network.log_t[300:302].mean()).exp()
    u = torch.randn(1, 3, 8, 8)
    eps = unet(u / (1 + t**2).sqrt().float(), torch.tensor([300.5])).sample
    assert torch.allclose(network.denoise(u, float(t)), u - float(t) * eps, atol=1e-4)


@torch.no_grad()
def test_repositories_of_before_2023_and_their_names_of_attention_are_read(repository):
    folder, unet = repository(DDPMScheduler())
    u = torch.randn(1, 3, 8, 8)
    expected = load(folder)(u, 1.0)
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    state = unet.state_dict()
    for now, then in old.items():
        state = {name.replace(f".{now}.", f".{then}."): tensor for name, tensor in state.items()}
    assert any("proj_attn" in name for name in state)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(state, folder / "unet" / "diffusion_pytorch_model.bin")
    assert torch.equal(load(folder)(u, 1.0), expected)


@pytest.mark.parametrize("kind", ["diffusers", None])
def test_a_repository_is_recognised_and_may_be_asked_for(repository, kind):
    load(repository(DDPMScheduler())[0], kind)


def test_a_repository_asked_for_as_something_else_is_refused(repository):
    with pytest.raises(WeightsError, match="that of diffusers, not of edm"):
        load(repository(EDMEulerScheduler())[0], "edm")


# --- what is refused


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize(
    ("part", "fields", "said"),
    [
        ("scheduler/scheduler_config.json", {"_class_name": "LCMScheduler"}, "LCMScheduler; supported are DDPM"),
        ("scheduler/scheduler_config.json", {"prediction_type": "flow"}, "prediction 'flow'"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "hyperbolic"}, "hyperbolic"),
        ("unet/config.json", {"_class_name": "UNet2DConditionModel"}, "UNet2DConditionModel; only UNet2DModel"),
        ("unet/config.json", {"hypernetwork": 1}, "hypernetwork"),
        ("unet/config.json", {"time_embedding_type": "learned", "num_train_timesteps": 9}, "whole timesteps only"),
        ("unet/config.json", {"class_embed_type": "identity"}, "class_embed_type 'identity'"),
        ("unet/config.json", {"block_out_channels": [16, 16]}, "of another architecture"),
        ("unet/config.json", {"layers_per_block": 2}, "it lacks "),
        ("unet/config.json", {"add_attention": False}, "it has unknown entries mid_block"),
        ("unet/config.json", {"down_block_types": ["Nonsense", "DownBlock2D"]}, "no network can be built"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_with_the_reason(repository, part, fields, said):
    folder, _ = repository(DDPMScheduler())
    edit(folder / part, **fields)
    with pytest.raises(WeightsError, match=said):
        load(folder)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("scheduler/scheduler_config.json", "scheduler_config"),
        ("unet/config.json", "no unet/config.json"),
        ("unet/diffusion_pytorch_model.safetensors", "none of diffusion_pytorch_model"),
    ],
)
def test_a_repository_that_lacks_a_part_is_refused_by_its_name(repository, part, said):
    folder, _ = repository(DDPMScheduler())
    (folder / part).unlink()
    with pytest.raises(WeightsError, match=said):
        load(folder, "diffusers")


def test_weights_that_are_cut_off_are_refused(repository):
    folder, _ = repository(DDPMScheduler())
    path = folder / "unet" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(WeightsError, match="cut off or damaged"):
        load(folder)


def test_weights_that_would_run_code_are_refused_by_name(repository):
    folder, _ = repository(DDPMScheduler())
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"conv_in.weight": foreign.Runs("x")}, folder / "unet" / "diffusion_pytorch_model.bin")
    foreign.EXECUTED.clear()
    with pytest.raises(WeightsError, match=r"foreign\.run"):
        load(folder)
    assert foreign.EXECUTED == []


def test_a_fourier_embedding_under_edm_is_refused(repository):
    folder, _ = repository(EDMEulerScheduler(), time_embedding_type="fourier")
    with pytest.raises(WeightsError, match="logarithm"):
        load(folder)
